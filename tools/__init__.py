"""Chores that make files of this repository. Not part of the package."""
