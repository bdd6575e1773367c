"""TLS: certificates, the handshake and the transport."""
