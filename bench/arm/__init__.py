"""Measurements on emulated Arm cores; see `__main__`."""
