"""How Sphinx makes the documents, and what it must be told for them.

The documents are also read where no Sphinx is, so they use plain links to files;
here these become links between pages.  And autodoc knows no interfaces of
zope.interface: the directive ``interface`` writes one down.
"""

import inspect
import re
from typing import Any

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from zope.interface.interface import InterfaceClass, Method

from netsrv import __version__

project = "netsrv"
author = "the authors of netsrv"
version = release = __version__
extensions = ["sphinx.ext.autodoc"]
exclude_patterns = ["_build"]
default_role = "py:obj"
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
html_theme = "alabaster"
html_theme_options = {"description": "TCP and UDP servers, from four steps to a real network"}

PAGE = re.compile(r"`([^`<]+) <(?:docs/)?([\w-]+)\.rst>`_")
MODULE = re.compile(r"`([^`<]+) <(netsrv/[\w/]+)\.py>`_")


class InterfaceDirective(SphinxDirective):
    """``.. interface:: module.IName``: its doc, attributes and methods, with inherited ones."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        module, _, name = self.arguments[0].rpartition(".")
        interface = getattr(__import__(module, fromlist=[name]), name)
        lines = [f".. py:class:: {module}.{name}", "", *_doc(interface), ""]
        for member in _members(interface):
            kind = "method" if isinstance(member, Method) else "attribute"
            signature = member.getSignatureString() if isinstance(member, Method) else ""
            lines += [f"   .. py:{kind}:: {member.__name__}{signature}", ""]
            lines += [*(f"   {line}" for line in _doc(member)), ""]
        parent = nodes.Element()
        source = self.get_source_info()[0]
        self.state.nested_parse(StringList(lines, source=source), self.content_offset, parent)
        return parent.children


def _members(interface: InterfaceClass) -> list[Any]:
    """The members in the order of the source, those of bases first, without Twisted's."""
    ours = [each for each in reversed(interface.__iro__) if each.__module__.startswith("netsrv.")]
    return [each.direct(name) for each in ours for name in each.names()]


def _doc(documented: Any) -> list[str]:
    return [f"   {line}" for line in inspect.cleandoc(documented.getDoc()).splitlines()]


def link_pages(_app: Sphinx, *where_and_source: Any) -> None:
    """Turn links to files into links between pages, in a source or an included one."""
    source = where_and_source[-1]
    source[0] = MODULE.sub(
        lambda found: f":py:mod:`{found[1]} <{found[2].replace('/', '.')}>`",
        PAGE.sub(r":doc:`\1 <\2>`", source[0]),
    )


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.add_directive("interface", InterfaceDirective)
    app.connect("source-read", link_pages)
    app.connect("include-read", link_pages)
