"""Stable Audio Open Small and models made from it: networks in PyTorch, graphs, sample inputs."""
