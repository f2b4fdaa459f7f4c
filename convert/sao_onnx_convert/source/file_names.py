"""Names of the files of published models."""

import re

CONFIG = "model_config.json"
WEIGHTS = "model.safetensors"

INDEX = ".index.json"
"""End of the name of an index: the file that says in which shard each tensor is."""

SHARD = re.compile(r"-(\d+)-of-(\d+)\.safetensors")
"""End of the name of a shard: its number, from 1, and the number of shards."""

PICKLES = (".ckpt", ".bin", ".pt", ".pth")
"""Ends of the names of pickled checkpoints. They are never opened."""

LICENSES = ("LICENSE*", "LICENCE*", "NOTICE*", "COPYING*")

T5_CONFIG = "config.json"
TOKENIZER = "tokenizer.json"
PIECES = "spiece.model"
TOKENIZER_SETTINGS = ("tokenizer_config.json", "added_tokens.json", "special_tokens_map.json")
