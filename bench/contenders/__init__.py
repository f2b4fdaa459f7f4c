"""Programs that make one clip each, with different engines."""
