"""Interfaces of others, each over `Service`: what its clients send becomes a `Request`, and a clip becomes what they expect."""
