"""A service for twistd that does nothing: the least that a start can cost."""

from twisted.application.service import ServiceMaker

empty = ServiceMaker("empty", "bench.servers.empty", "Serve nothing (a measurement).", "empty")
