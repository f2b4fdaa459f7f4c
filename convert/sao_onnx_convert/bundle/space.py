"""Free disk space, checked before the work."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from transformers import T5EncoderModel

from sao_onnx_convert.errors import DiskSpaceError, UnsupportedModelError
from sao_onnx_convert.family.stable_audio_open.networks.model import AudioModel
from sao_onnx_convert.family.stable_audio_open.text_encoder import transformers_config
from sao_onnx_convert.source.config_fields import ModelConfig
from sao_onnx_convert.source.t5_config import T5Config

INT8_SHARE = 0.3
"""Size of the 8-bit graphs relative to the single-precision ones: 0.27 at full size, more in small models."""

MARGIN = 20_000_000
"""Bytes for nodes, tokenizer and manifest, and for what other programs write in the meantime."""


def bundle_bytes(config: ModelConfig, t5: T5Config, precisions: Sequence[str]) -> int:
    """The most bytes that the files of a conversion take at one time, from the configurations alone.

    The single-precision graphs are written in any case, because the 8-bit ones are made from them.

    Args:
        config: Configuration of the audio model.
        t5: Configuration of the T5 encoder.
        precisions: Those of the bundle.

    Raises:
        UnsupportedModelError: No encoder can be built from its configuration.
    """
    with torch.device("meta"):
        try:
            encoder = T5EncoderModel(transformers_config(t5))
        except Exception as error:  # transformers raises whatever a wrong value leads to.
            raise UnsupportedModelError(f"no T5 encoder has this configuration: {' '.join(str(error).split())}") from error
        model = AudioModel(config, t5.d_model)
    weights = sum(4 * tensor.numel() for part in (encoder, model) for tensor in part.parameters())
    return int(weights * (1 + INT8_SHARE * ("int8" in precisions))) + MARGIN


def require_space(needs: Mapping[str, tuple[Path, int]]) -> None:
    """Refuse work for which the disk has no space.

    Args:
        needs: Place and number of bytes, by what they are for (in the words of the message). Places on one disk share its free
            space.

    Raises:
        DiskSpaceError: A disk has less free space than is needed there.
    """
    disks: dict[int, list[tuple[str, Path, int]]] = {}
    for what, (place, size) in needs.items():
        if size > 0:
            folder = _existing(place)
            disks.setdefault(folder.stat().st_dev, []).append((what, folder, size))
    for entries in disks.values():
        usage = shutil.disk_usage(entries[0][1])
        needed = sum(size for _, _, size in entries)
        # Some network and virtual disks do not say their size.
        if usage.total and usage.free < needed:
            parts = " and ".join(f"{_gigabytes(size)} for {what} in {folder}" for what, folder, size in entries)
            raise DiskSpaceError(
                f"the disk has {_gigabytes(usage.free)} free, and {_gigabytes(needed)} are needed: {parts}; make room, or take "
                "another disk (for the bundle by its name, for downloads with HF_HOME)"
            )


def _existing(place: Path) -> Path:
    """The place, or the nearest folder above it that is there."""
    folder = place.resolve()
    while not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    return folder


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.2f} GB"
