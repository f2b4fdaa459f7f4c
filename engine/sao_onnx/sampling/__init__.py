"""From noise to latents. Pure NumPy."""
