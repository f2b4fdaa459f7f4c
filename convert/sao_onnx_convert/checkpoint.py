"""Names of a checkpoint's files."""

CONFIG = "model_config.json"
WEIGHTS = "model.safetensors"
