"""Where netsrv finds the service; there is no __init__.py in this folder or the one above."""

from greeter.service import GreeterService

greeter = GreeterService()
