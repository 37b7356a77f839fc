"""The server: Mixer's service free of any transport, the gRPC transport, and the HTTP pages."""
