"""Measurements: `compare` the speed of several engines, `fidelity` the error of int8, other modules what their names say."""
