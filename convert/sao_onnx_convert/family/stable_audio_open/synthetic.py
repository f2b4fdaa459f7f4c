"""Checkpoints with random weights, for tests and measurements where the released weights cannot be had.

They have the layout of the released files, tensor by tensor, and activations of ordinary size; what they generate is noise.
`python -m sao_onnx_convert.synthetic` writes one.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from torch import Tensor
from transformers import T5Config, T5EncoderModel

from sao_onnx_convert.family.stable_audio_open.networks.model import AudioModel
from sao_onnx_convert.source.config import parse_config
from sao_onnx_convert.source.file_names import CONFIG, WEIGHTS

WORDS = [
    "a",
    "the",
    "of",
    "and",
    "with",
    "in",
    "on",
    "at",
    "to",
    "drum",
    "drums",
    "loop",
    "beat",
    "bass",
    "kick",
    "snare",
    "hat",
    "clap",
    "techno",
    "house",
    "ambient",
    "pad",
    "synth",
    "lead",
    "guitar",
    "piano",
    "strings",
    "warm",
    "dark",
    "bright",
    "soft",
    "loud",
    "deep",
    "slow",
    "fast",
    "rain",
    "wind",
    "ocean",
    "waves",
    "birds",
    "bell",
    "tone",
    "noise",
    "sound",
    "BPM",
    "tech",
    "minor",
    "major",
    "chord",
    "arp",
    "vinyl",
    "reverb",
    "delay",
    "analog",
    "distorted",
    "clean",
    "ethnic",
    "funk",
    "jazz",
    "rock",
    "metal",
    "8bit",
]


def write_checkpoint(folder: Path, model_config: dict[str, Any], t5_width: int, seed: int = 0) -> None:
    """Write `model_config.json` and `model.safetensors`, the autoencoder in half precision if the configuration says so.

    Args:
        folder: The checkpoint; made if it is not there.
        model_config: The configuration.
        t5_width: Channels of the T5's embeddings.
        seed: Of the weights.
    """
    config = parse_config(model_config)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        tensors = {name: _random(name, tensor) for name, tensor in AudioModel(config, t5_width).state_dict().items()}
    if config.model.pretransform.model_half:
        tensors |= {name: tensor.half() for name, tensor in tensors.items() if name.startswith("pretransform.")}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG).write_text(json.dumps(model_config, indent=2), encoding="utf-8")
    save_file(tensors, folder / WEIGHTS)


def _random(name: str, initial: Tensor) -> Tensor:
    """Random values for a tensor, of a size that keeps activations near 1. Some tensors keep their initial values."""
    last = name.rpartition(".")[2]
    # The norm in weight_g is that of the initial weight_v; the rotary frequencies and the norms' betas are constants.
    if last in ("inv_freq", "weight_g", "weight_v") or name.endswith("_norm.beta"):
        return initial
    if initial.ndim == 1 or name.endswith("timestep_features.weight"):
        mean = 1.0 if last == "gamma" or name.endswith("norm.weight") else 0.0
        deviation = 1.0 if "timestep_features" in name or last == "weights" else 0.1
    else:
        mean, deviation = 0.0, initial[0].numel() ** -0.5
    if name.endswith("project_out.weight"):
        # Otherwise latents would be several times as large as those of a trained model, which have unit variance.
        deviation /= 4
    return torch.randn_like(initial).mul_(deviation).add_(mean)


def write_t5(folder: Path, t5_config: dict[str, Any], seed: int = 0) -> None:
    """Write a T5 encoder: `config.json`, `model.safetensors` and a `tokenizer.json` of letters and a few words.

    Args:
        folder: Where to; made if it is not there.
        t5_config: The configuration, as transformers takes it.
        seed: Of the weights.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        encoder = T5EncoderModel(T5Config(**t5_config))  # type: ignore[no-untyped-call]
    encoder.save_pretrained(folder)
    tokenizer().save(str(folder / "tokenizer.json"))


def tokenizer() -> Tokenizer:
    """A Unigram tokenizer like that of T5: `<pad>` 0, `</s>` 1 at the end of every text, `<unk>` 2."""
    letters = [chr(code) for code in range(33, 127)]
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -20.0), ("▁", -4.0)]
    pieces += [("▁" + word, -6.0) for word in WORDS]
    pieces += [(letter, -8.0) for letter in letters]
    result = Tokenizer(models.Unigram(pieces, unk_id=2))
    result.add_special_tokens(["<pad>", "</s>", "<unk>"])
    result.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(" {2,}", " "), normalizers.Strip()])
    result.pre_tokenizer = pre_tokenizers.Metaspace()
    result.decoder = decoders.Metaspace()
    result.post_processor = processors.TemplateProcessing("$A </s>", special_tokens=[("</s>", 1)])
    return result
