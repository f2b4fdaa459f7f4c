"""Sounds over HTTP. Needs the extra `serve`. Nothing here computes: `Engine.stream` does."""
