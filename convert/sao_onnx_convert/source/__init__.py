"""Where a model comes from: a folder or a repository on the Hugging Face hub, as files on this machine."""
