"""Two methods that do the same, one of them faster: which one a class has defined last."""


def defined_last(instance: object, fast: str, plain: str) -> bool:
    """Return whether the method *fast* of an object does what its method *plain* does.

    A subclass that overrides only *plain* would be bypassed by *fast*, which it has inherited.
    """
    if plain in getattr(instance, "__dict__", ()):
        return False
    for kind in type(instance).__mro__:
        if fast in vars(kind):
            return True
        if plain in vars(kind):
            return False
    return False
