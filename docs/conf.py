"""Sphinx's settings for the documents.

The documents are also read where no Sphinx is, so they link to files; here these links
become links between pages.  For the same reason the table of faults is an ordinary one,
and gets its column of tests when the page is built.  The directive ``settings`` makes the
list of options and the table of keys from the settings themselves; where a text names one of
these options, the page links to it.
"""

import re
import sys
from collections.abc import Sequence
from functools import partial
from os import environ
from pathlib import Path

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from netsrv import __version__

sys.path.insert(0, str(Path(__file__).parents[1]))

from docs.faults_tables import TABLES, faults_table
from docs.metrics_table import metrics_list
from docs.settings_tables import OPTIONS, keys_table, options_list
from tests.docs.faults import FaultTest, tests_by_fault

project = "netsrv"
author = "the authors of netsrv"
version = release = __version__
extensions = [
    "sphinx.ext.autodoc",
    "sphinxcontrib.zopeext.autointerface",
    "sphinx_copybutton",
]
if "NETSRV_DOCS_INTERSPHINX" in environ:
    # Links to other projects' documents need their inventories, so the network.
    extensions.append("sphinx.ext.intersphinx")
intersphinx_mapping = {
    "python": ("https://docs.python.org/3", None),
    "twisted": ("https://docs.twisted.org/en/stable/api", None),
    "zope.interface": ("https://zopeinterface.readthedocs.io/en/latest", None),
}
exclude_patterns = ["_build"]
default_role = "py:obj"
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
smartquotes_action = "qe"  # leave -- as it is, for options
toc_object_entries_show_parents = "hide"
copybutton_prompt_text = r"\$ |>>> |\.\.\. (?=\s|class |def )"
copybutton_prompt_is_regexp = True
copybutton_only_copy_prompt_lines = True
html_theme = "furo"
html_title = f"netsrv {version}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sphinx = html_copy_source = html_show_sourcelink = False
pygments_dark_style = "github-dark"

PAGE = re.compile(r"`([^`<]+) <(?:docs/)?([\w-]+)\.rst>`_")
FILE = re.compile(r"^( *)``([^`\n]+)``:\n\n(\1\.\. code-block:: \S+\n)", re.MULTILINE)
OPTION = re.compile(r"``(--[a-z-]+)``")
MODULE = re.compile(r"`([^`<]+) <(netsrv/[\w/]+)\.py>`_")
TESTS_WIDTH = 45
"""Width of the column of tests, in per cent of the other columns together."""


class SettingsDirective(SphinxDirective):
    """``.. settings:: options``, ``keys``, ``metrics`` or ``faults-...``: made from the code."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return the nodes.  Sphinx calls it."""
        makers = {"options": options_list, "keys": keys_table, "metrics": metrics_list}
        makers |= {f"faults-{name}": partial(faults_table, name) for name in TABLES}
        lines_of = makers[self.arguments[0]]
        parent = nodes.Element()
        lines = StringList(lines_of(), source=self.get_source_info()[0])
        self.state.nested_parse(lines, self.content_offset, parent)
        return parent.children


def link_pages(_app: Sphinx, *where_and_source: list[str]) -> None:
    """Turn links to files into links between pages, and names of files into captions.

    The name of an option becomes a link to it.
    """
    source = where_and_source[-1]
    text = PAGE.sub(r":doc:`\1 <\2>`", source[0])
    text = MODULE.sub(lambda match: f":py:mod:`{match[1]} <{match[2].replace('/', '.')}>`", text)
    text = OPTION.sub(
        lambda match: f":option:`{match[1]}`" if match[1] in OPTIONS else match[0], text
    )
    source[0] = FILE.sub(r"\1\3\1   :caption: \2\n", text)


def add_tests(app: Sphinx, doctree: nodes.document) -> None:
    """Add the column of tests to the tables of faults, found by the tests' names."""
    if app.env.docname != "faults":
        return
    tests = tests_by_fault()
    for group in doctree.findall(nodes.tgroup):
        group["cols"] += 1
        columns = list(group.findall(nodes.colspec))
        columns[-1].parent.insert(len(columns), nodes.colspec(colwidth=TESTS_WIDTH))
        for row in group.findall(nodes.row):
            number = row[0].astext()
            is_head = isinstance(row.parent, nodes.thead)
            row.append(_words("Tests") if is_head else _cell(tests.get(number, [])))


def _cell(tests: Sequence[FaultTest]) -> nodes.entry:
    """Return the cell that lists some tests: the words of the name, and the file."""
    items = nodes.bullet_list()
    for test in tests:
        words = nodes.paragraph(
            "", f"{test.words} ", nodes.literal(text=test.path.removeprefix("tests/"))
        )
        items += nodes.list_item("", words)
    return nodes.entry("", items) if tests else nodes.entry()


def _words(text: str) -> nodes.entry:
    return nodes.entry("", nodes.paragraph(text=text))


def setup(app: Sphinx) -> None:
    """Connect the functions above.  Sphinx calls it."""
    app.add_directive("settings", SettingsDirective)
    app.connect("source-read", link_pages)
    app.connect("include-read", link_pages)
    app.connect("doctree-read", add_tests)
