"""An emulated Arm machine in a folder, for tests and benchmarks. It needs nothing of this project."""
