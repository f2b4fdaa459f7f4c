"""Programs that make one clip each, every one with another engine."""
