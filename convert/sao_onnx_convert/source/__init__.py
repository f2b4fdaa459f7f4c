"""Models as they are published, in a folder or in a repository on the Hugging Face hub: found, checked, read."""
