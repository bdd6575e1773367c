"""Errors of certificates and TLS settings."""


class TLSConfigurationError(ValueError):
    """TLS cannot be served as it was asked for: one line for each error."""

    def __init__(self, *lines: str) -> None:
        super().__init__("; ".join(lines))
        self.lines = lines
