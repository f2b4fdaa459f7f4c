"""The quantization recipe, its calibration, and the graphs in 8 bits."""
