"""Which graph becomes an 8-bit one in which way, and how close it should stay to single precision.

One bundle serves every processor, so a form is chosen that is fast on all of them or does not matter where it is not
(`bench/results/arm-forms.md` has the evidence for Arm), and that computes the same integers on all of them:

- Unsigned activations with signed weights, `MatMulIntegerToFloat` and `QLinearConv`: dot products on x86 with VNNI and on Arm
  with asimddp (a Raspberry Pi 5), widened multiplications on plain NEON (a Raspberry Pi 4); for products also the matrix
  instructions of i8mm. A tenth of the instructions of single precision everywhere, and scalar code nowhere. Unsigned weights
  would bring i8mm to convolutions as well, and take VNNI from x86.
- x86 without VNNI adds pairs of such products in 16 bits, which overflow: 255 × (127 + 127) is twice what they hold. Two cures,
  measured at full size on synthetic weights; times are of a clip on two cores of a VNNI processor with all but AVX2 hidden:

  | | weights made unsigned when loaded | no two neighbours beyond 128 | weights of 7 bits |
  |---|---|---|---|
  | products of the DiT and T5 | **31.0 dB**; a tenth slower, loads in 3 s instead of 1 | 28.8 dB | |
  | convolutions of the decoder | 41.2 dB; 9 to 10 s instead of 6 to 7 | **41.0 dB** | 38.5 dB |

  So the DiT's and T5's are made unsigned (by ONNX Runtime, asked by `runtime.sessions`, on such processors alone), and the
  decoder's are small enough (`pairs`), which leaves them the fastest kernels everywhere. Activations of 7 bits would cost what
  weights of 7 bits do, or more: most of what is lost is theirs.
- Weights are at least −127: plain NEON adds two products in 16 bits, which hold 2 × 127 × 128, and not 2 × 128 × 128.
- `MatMulNBits` in 8 bits is not used: it has kernels neither for plain NEON nor for x86 before AVX2, and computes in single
  precision there. 4 bits are no faster on any Arm core.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import cast

import onnx
import torch
from torch import Tensor, nn

from sao_onnx_convert.export.builder import Array, GraphBuilder
from sao_onnx_convert.family.stable_audio_open.dual_mono import halved_stages
from sao_onnx_convert.family.stable_audio_open.networks.autoencoder import Stage, without_parametrization
from sao_onnx_convert.family.stable_audio_open.transformer import Product
from sao_onnx_convert.quantize.decoder import DecoderBuilder
from sao_onnx_convert.quantize.matmul import quantize_linears, rotated_rows, rows
from sao_onnx_convert.quantize.ranges import Observer
from sao_onnx_convert.quantize.weights import store_convolutions_in_int8, store_tables_in_int8

MIN_SNR = {"text_encoder": 30.0, "context": 30.0, "dit": 30.0, "decoder": 40.0, "encoder": 40.0}
"""Decibels that each part should keep against PyTorch, the decoder as a whole. A part below is reported, not refused."""

RUINED = {"decoder": 20.0, "encoder": 20.0}
"""Decibels against PyTorch below which a part stays in single precision: what is lost there is heard, whatever it saves, while
the steps of sampling correct each other. Such a part is a decoder of quiet sounds, whose codes have to reach the peaks of
others."""


def linears(graph: GraphBuilder, x: str, matrices: Sequence[Array], name: Product) -> list[str]:
    """The products of the DiT's blocks: one scale for each row, and the input of the feed-forward's second Linear rotated."""
    return (rotated_rows if name == "down" else rows)(graph, x, matrices)


def text_encoder(model: onnx.ModelProto) -> None:
    """T5, in place: every linear in blocks, because its activations have outliers; the embedding table in 8 bits a row."""
    quantize_linears(model)
    store_tables_in_int8(model)


def audio_encoder(model: onnx.ModelProto) -> None:
    """The autoencoder's encoder, in place: weights stored in 8 bits. It runs once for a clip, if at all."""
    store_convolutions_in_int8(model)


def decoder(stages: list[Stage], latents: list[Tensor]) -> list[Callable[[str, str], onnx.ModelProto]]:
    """Builders of the decoder's graphs, given the names of input and output, calibrated on latents."""
    halves = halved_stages([stage.layers for stage in stages])
    parts = 1 if halves is None else 2
    layers = halves or [stage.layers for stage in stages]
    plain = [cast(nn.Sequential, without_parametrization(each)) for each in layers]
    whole = nn.Sequential(*plain)
    observer = Observer(whole)
    with torch.no_grad():
        for excerpt in latents:
            whole(excerpt.reshape(parts, excerpt.shape[1] // parts, excerpt.shape[2]))
    seen = observer.finish()
    return [functools.partial(DecoderBuilder(seen, parts).build, each) for each in plain]
