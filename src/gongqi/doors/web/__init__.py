"""The web door: the derived HTTP API, the console, and the two streams. It translates; it knows no domain."""
