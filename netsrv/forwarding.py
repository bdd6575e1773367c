"""Attributes of an object that are those of another one behind it."""

from typing import Any


class Own:
    """An attribute that is the own one of what *behind* names::

        class Transport:
            getHost = Own("port")

    A ``__getattr__`` would do the same, and make each look at any attribute slow.
    """

    def __init__(self, behind: str) -> None:
        self._behind = behind

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, instance: Any, owner: type) -> Any:
        return self if instance is None else getattr(getattr(instance, self._behind), self._name)
