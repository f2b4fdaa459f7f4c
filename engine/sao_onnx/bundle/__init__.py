"""A bundle: its manifest, its files, and the names of models."""
