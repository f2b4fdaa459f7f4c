"""The int8 recipe: calibration, and the graphs of each part that compute in 8 bits."""
