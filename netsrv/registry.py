"""Finds services and faults among Twisted's plugins and the entry points of installed packages.

A plugin is an object in a module of the package ``twisted.plugins`` that provides
`netsrv.interfaces.IStreamService` or `IDatagramService`; so are the built-in services.  An entry
point of the group ``netsrv.services`` names such an object, or its class.  One that cannot be used
is named in `Registry.problems`, for the log; the others work.  Types of faults provide
`IStreamFault` or `IDatagramFault`, and their group is ``netsrv.faults``.
"""

import importlib
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from itertools import chain
from pathlib import Path
from types import ModuleType
from typing import Any

import twisted.plugin
from attrs import field, frozen, has
from twisted.logger import LogLevel
from twisted.python import log
from twisted.python.modules import getModule

from netsrv.interfaces import (
    IDatagramFault,
    IDatagramService,
    IFault,
    IService,
    IStreamFault,
    IStreamService,
)
from netsrv.settings import did_you_mean, exception_text, quote_value
from netsrv.sockets.addresses import SERVICE_NAME, printable

BUILT_IN = "netsrv_services"
"""The plugin module of the built-in services, whose names take precedence."""

GROUP = "netsrv.services"
"""The group of entry points by which a package has services."""

FAULT_GROUP = "netsrv.faults"
"""The same for types of faults."""


@frozen
class Registry:
    """The services by name, and a line for each one that cannot be used."""

    services: dict[str, Any] = field(factory=dict)
    problems: list[str] = field(factory=list)
    empty: list[str] = field(factory=list)
    """A line for each plugin module that has no plugin in it, which may be on purpose."""

    def stream(self, name: str) -> Any:
        """Return the stream service *name*.  Raises LookupError with the names that exist."""
        return self._find(name, IStreamService, "TCP or a unix socket")

    def datagram(self, name: str) -> Any:
        """Return the datagram service *name*.  Raises LookupError with the names that exist."""
        return self._find(name, IDatagramService, "UDP")

    def transports(self, name: str) -> str:
        """Return the transports of the service *name*: ``tcp``, ``udp``, ``tcp udp``."""
        service = self.services[name]
        provided = [("tcp", IStreamService), ("udp", IDatagramService)]
        return " ".join(word for word, each in provided if each.providedBy(service))

    def _find(self, name: str, interface: Any, transport: str) -> Any:
        service = self.services.get(name)
        if interface.providedBy(service):
            return service
        others = sorted(each for each, one in self.services.items() if interface.providedBy(one))
        there_are = f"there are {', '.join(others) or 'none'}"
        if service is not None:
            raise LookupError(f"{quote_value(name)} is not served on {transport}; {there_are}")
        near = did_you_mean(name, others)
        reasons = "".join(f"; {problem}" for problem in (*self.problems, *self.empty))
        raise LookupError(f"there is no service {quote_value(name)}; {there_are}{near}{reasons}")


@frozen
class _Candidate:
    """A service that is not loaded yet."""

    place: str
    """The object's name, for an error."""
    source: str
    """The plugin module or the package that has it."""
    load: Callable[[], Any]


def find_services(package: ModuleType | None = None) -> Registry:
    """Find the services of installed packages, and the plugins of *package*.

    By default that is ``twisted.plugins``.  Of two services with one name the first is used: a
    built-in one, then a plugin, then an entry point.
    """
    package = package or importlib.import_module("twisted.plugins")
    registry = Registry()
    sources: dict[str, str] = {}
    cache = _plugin_cache(package)
    _check_modules(package, cache, registry)
    entries = _entry_points(GROUP, IService, registry.problems)
    for candidate in chain(_plugins(cache, IService), entries):
        try:
            service = candidate.load()
            name = _checked_name(service)
        except BaseException as error:  # not even KeyboardInterrupt keeps the rest away
            registry.problems.append(
                f"service {candidate.place} cannot be used: {_error_text(error)}"
            )
            continue
        if name in registry.services:
            registry.problems.append(
                f"two services are named {name!r}: the one of {sources[name]} is used, "
                f"the one of {candidate.source} is not"
            )
            continue
        registry.services[name] = service
        sources[name] = candidate.source
    return registry


@frozen
class FaultTypes:
    """The types of faults that plugins add, by name, and a line for each that cannot be used."""

    streams: dict[str, Any] = field(factory=dict)
    datagrams: dict[str, Any] = field(factory=dict)
    problems: list[str] = field(factory=list)


def find_faults(package: ModuleType | None = None) -> FaultTypes:
    """Find the types of faults of installed packages, and the plugins of *package*.

    Of two with one name the first is used: a plugin, then an entry point.
    """
    package = package or importlib.import_module("twisted.plugins")
    types = FaultTypes()
    entries = _entry_points(FAULT_GROUP, IFault, types.problems)
    for candidate in chain(_plugins(_plugin_cache(package), IFault), entries):
        try:
            fault = candidate.load()
            name = _checked_name(fault)
            if not callable(fault.stage):
                raise TypeError("its stage is no class")
            if fault.attributes is not None and not has(fault.attributes):
                raise TypeError("its attributes are no attrs class")
        except BaseException as error:  # not even KeyboardInterrupt keeps the rest away
            types.problems.append(f"fault {candidate.place} cannot be used: {_error_text(error)}")
            continue
        for interface, known in ((IStreamFault, types.streams), (IDatagramFault, types.datagrams)):
            if interface.providedBy(fault) and known.setdefault(name, fault) is not fault:
                types.problems.append(
                    f"two faults are named {name!r}: the one of {candidate.source} is not used"
                )
    return types


class _CacheLog:
    """The log of `twisted.plugin` in a search: a line of ours is enough about a bad module."""

    msg = staticmethod(log.msg)

    @staticmethod
    def err() -> None:
        log.err(log_level=LogLevel.debug)


def _plugin_cache(package: ModuleType) -> dict[str, Any]:
    """Return Twisted's cache of a package's plugins, by modules, after an update."""
    plugin: Any = twisted.plugin
    plugin.log = _CacheLog
    try:
        return plugin.getCache(package)  # type: ignore[no-any-return]
    finally:
        plugin.log = log


def _plugins(cache: dict[str, Any], provided: Any) -> Iterator[_Candidate]:
    """Yield the objects of an interface among Twisted's plugins, the built-in ones first."""
    for _, dropin in sorted(cache.items(), key=lambda item: (item[0] != BUILT_IN, item[0])):
        for plugin in dropin.plugins:
            if any(interface.isOrExtends(provided) for interface in plugin.provided):
                place = f"{dropin.moduleName}.{plugin.name}"
                yield _Candidate(place, dropin.moduleName, plugin.load)


def _entry_points(group: str, provided: Any, problems: list[str]) -> Iterator[_Candidate]:
    """Yield the objects of an interface that entry points of a group name, sorted by name."""
    if not _has_entry_points(group):
        return
    from importlib import metadata

    try:
        entries = sorted(metadata.entry_points(group=group), key=lambda entry: entry.name)
        for entry in entries:
            package = _package_name(entry)
            place = f"{printable(entry.value)} of the package {package}"
            yield _Candidate(place, package, partial(_load, entry, provided))
    except Exception as error:
        problems.append(f"the entry points of packages cannot be read: {_error_text(error)}")


def _has_entry_points(group: str) -> bool:
    """Return True if a package on `sys.path` may have entry points of a group.

    Most environments have no such package, and importlib.metadata costs a start ten times as much
    as this search.
    """
    for folder in sys.path:
        try:
            names = os.listdir(folder or ".")
        except NotADirectoryError:  # an archive
            return True
        except OSError:
            continue
        for name in names:
            if name.endswith((".dist-info", ".egg-info")):
                with suppress(OSError), open(f"{folder}/{name}/entry_points.txt", "rb") as file:
                    if group.encode() in file.read():
                        return True
    return False


def _package_name(entry: Any) -> str:
    try:
        return printable(entry.dist.name)
    except Exception:  # its file METADATA is missing or damaged
        return "without a name"


def _load(entry: Any, provided: Any) -> Any:
    """Import the object that an entry point names, and return it, or an instance if it is a class.

    Raises TypeError if it does not provide an interface.
    """
    plugin = entry.load()
    if isinstance(plugin, type):
        plugin = plugin()
    if not provided.providedBy(plugin):
        noun = provided.__name__.removeprefix("I")
        raise TypeError(f"it provides neither IStream{noun} nor IDatagram{noun}")
    return plugin


def _check_modules(package: ModuleType, cache: dict[str, Any], registry: Registry) -> None:
    """Add a line for each plugin module that does not import, or has no plugin in it.

    Twisted's cache omits the former.  Twisted's own modules may be empty.
    """
    of_twisted = str(Path(twisted.__file__).parent)
    for module in getModule(package.__name__).iterModules():
        path = module.filePath.path
        dropin = cache.get(module.name.rpartition(".")[2])
        if dropin is None:
            try:
                importlib.import_module(module.name)
            except BaseException as error:
                text = f"plugin module {printable(path)} cannot be imported: {_error_text(error)}"
                registry.problems.append(text)
        elif not dropin.plugins and not path.startswith(of_twisted):
            registry.empty.append(f"plugin module {printable(path)} has no service in it")


def _checked_name(service: Any) -> str:
    """Check the attributes that every service has, and return its name."""
    for attribute in ("name", "description"):
        if not isinstance(getattr(service, attribute), str):
            raise TypeError(f"its {attribute} is not a string")
    if not re.fullmatch(SERVICE_NAME, service.name):
        raise ValueError(f"{quote_value(service.name)} is not a name like echo or acme.echo-2")
    return str(service.name)


def _error_text(error: BaseException) -> str:
    return printable(exception_text(error))
