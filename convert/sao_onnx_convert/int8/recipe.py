"""Which graph becomes an 8-bit one in which way, and how close it should stay to single precision."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from sao_onnx_convert.int8.decoder import DecoderBuilder, Observer
from sao_onnx_convert.int8.matmul import quantize_linears
from sao_onnx_convert.int8.weights import store_convolutions_in_int8, store_tables_in_half
from sao_onnx_convert.networks.autoencoder import Stage, without_parametrization

Array = np.ndarray[Any, np.dtype[Any]]

MIN_SNR = {"text_encoder": 30.0, "dit": 30.0, "decoder": 40.0, "encoder": 40.0}
"""Decibels that each part should keep against PyTorch, the decoder as a whole. A part below is reported, not refused."""


def transformer(model: onnx.ModelProto, width: int) -> None:
    """The DiT of a width, in place: its blocks' linears in 8 bits; what is at its ends or runs on one token stays."""

    def form(name: str, weight: Array) -> str | None:
        inputs, outputs = weight.shape
        if min(inputs, outputs) < width:
            return None
        # The second Linear of the feed-forward reads four times the width.
        return "blocks" if inputs == 4 * width else "dynamic"

    quantize_linears(model, form)


def text_encoder(model: onnx.ModelProto) -> None:
    """T5, in place: every linear in blocks, because its activations have outliers; the embedding table in half precision.

    The table is exact: the converter has rounded T5's weights to half precision before.
    """
    quantize_linears(model, lambda name, weight: "blocks")
    store_tables_in_half(model)


def audio_encoder(model: onnx.ModelProto) -> None:
    """The autoencoder's encoder, in place: weights stored in 8 bits. It runs once for a clip, if at all."""
    store_convolutions_in_int8(model)


def decoder(stages: list[Stage], latents: list[Tensor]) -> list[Callable[[str, str], onnx.ModelProto]]:
    """Builders of the decoder's graphs, given the names of input and output, calibrated on latents."""
    plain = [cast(nn.Sequential, without_parametrization(stage.layers)) for stage in stages]
    whole = nn.Sequential(*plain)
    observer = Observer(whole)
    with torch.no_grad():
        for excerpt in latents:
            whole(excerpt)
    ranges = observer.finish()
    return [functools.partial(DecoderBuilder(ranges).build, layers) for layers in plain]
