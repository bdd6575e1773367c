"""TLS with Python's own `ssl` and memory BIOs: certificates, contexts, and the transport."""
