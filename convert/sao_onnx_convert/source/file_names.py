"""Names of the files that models are made of, as they are published."""

import re

CONFIG = "model_config.json"
WEIGHTS = "model.safetensors"

INDEX = ".index.json"
"""What the name of a sharded model's index ends with: the file that says which tensors are in which of its files."""

SHARD = re.compile(r"-(\d+)-of-(\d+)\.safetensors")
"""How the name of a shard ends: its number, from 1, and how many there are."""

PICKLES = (".ckpt", ".bin", ".pt", ".pth")
"""How pickled checkpoints end, which are never opened."""

LICENSES = ("LICENSE*", "LICENCE*", "NOTICE*", "COPYING*")

T5_CONFIG = "config.json"
TOKENIZER = "tokenizer.json"
PIECES = "spiece.model"
TOKENIZER_SETTINGS = ("tokenizer_config.json", "added_tokens.json", "special_tokens_map.json")
