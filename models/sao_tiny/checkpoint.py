"""Writes what was trained in the layout of the released model, for `sao-onnx convert`."""

from __future__ import annotations

import shutil
from pathlib import Path

from safetensors.torch import save_file
from tokenizers import Tokenizer
from transformers import T5EncoderModel

from models.sao_tiny.denoiser import Denoiser
from sao_onnx_convert.family.stable_audio_open.networks.autoencoder import Autoencoder
from sao_onnx_convert.family.stable_audio_open.networks.model import AudioModel
from sao_onnx_convert.source.config import load_config

HERE = Path(__file__).parent


def write_checkpoint(
    folder: Path,
    config_file: Path,
    autoencoder: Autoencoder,
    denoiser: Denoiser,
    encoder: T5EncoderModel,
    tokenizer: Tokenizer,
) -> None:
    """Write `model_config.json`, `model.safetensors`, the licence, and in the folder `t5` the encoder with its tokenizer.

    Args:
        folder: Where to.
        config_file: The configuration that the networks were made from.
        autoencoder: Of both channels.
        denoiser: The transformer and the embedding of the length.
        encoder: Of the prompt.
        tokenizer: The encoder's.
    """
    config = load_config(config_file)
    model = AudioModel(config, config.model.conditioning.cond_dim)
    model.dit.load_state_dict(denoiser.dit.state_dict())
    model.number(config.numbers[0].id).load_state_dict(denoiser.seconds.state_dict())
    model.autoencoder.load_state_dict(autoencoder.state_dict())
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.cpu().contiguous() for name, tensor in model.state_dict().items()}, folder / "model.safetensors")
    shutil.copy(config_file, folder / "model_config.json")
    shutil.copy(HERE / "LICENSE", folder)
    encoder.save_pretrained(folder / "t5")
    tokenizer.save(str(folder / "t5" / "tokenizer.json"))
