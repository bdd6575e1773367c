"""A service that greets each name."""
