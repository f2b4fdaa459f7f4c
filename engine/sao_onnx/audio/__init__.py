"""Audio files, the level and the ends of audio, and pictures of it."""
