"""A service that greets everyone who gives a name."""
