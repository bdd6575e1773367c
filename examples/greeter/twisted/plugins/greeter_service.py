"""The plugin; this folder and the one above have no __init__.py."""

from greeter.service import GreeterService

greeter = GreeterService()
