"""Who may ask for what, and how much a connection may hold up: keys, TLS, limits of connections, secure headers."""
