"""Programs that run on an emulated Arm core. Each needs the engine's packages alone, and prints JSON as its last line."""
