"""Names of the files of published models."""

import re

CONFIG = "model_config.json"
WEIGHTS = "model.safetensors"
PICKLED_WEIGHTS = "model.ckpt"
"""What the reference looks for where there is no `model.safetensors`."""

INDEX = ".index.json"
"""End of the name of an index: the file that says in which shard each tensor is."""

SHARD = re.compile(r"-(\d+)-of-(\d+)\.safetensors")
"""End of the name of a shard: its number, from 1, and the number of shards."""

PICKLES = (".ckpt", ".bin", ".pt", ".pth")
"""Ends of the names of what `torch.save` writes. `pickles` opens it without running anything in it."""

LICENSES = ("LICENSE*", "LICENCE*", "NOTICE*", "COPYING*")

T5_CONFIG = "config.json"
TOKENIZER = "tokenizer.json"
PIECES = "spiece.model"
TOKENIZER_SETTINGS = ("tokenizer_config.json", "added_tokens.json", "special_tokens_map.json")
