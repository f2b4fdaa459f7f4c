"""Clips for assistants that speak the Model Context Protocol: a client of the engine, beside the server of HTTP."""
