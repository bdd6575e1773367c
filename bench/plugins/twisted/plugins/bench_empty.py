"""A service for twistd that does nothing: the minimum cost of a start."""

from twisted.application.service import ServiceMaker

empty = ServiceMaker("empty", "bench.servers.empty", "Serve nothing (a measurement).", "empty")
