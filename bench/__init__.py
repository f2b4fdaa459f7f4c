"""Measurements: of speed beside other engines (`compare`), and of what 8 bits cost (`fidelity`)."""
