"""Audio files, levels, ends and pictures."""
