"""The quantization recipe: which part of the model becomes an 8-bit graph, in which form, and how close it should stay.

One bundle serves every processor. So each form is fast on all of them, or does not matter where it is slow
(`bench/results/arm-forms.md` shows it for Arm), and computes the same integers on all of them:

- Unsigned activations with signed weights, `MatMulIntegerToFloat` and `QLinearConv`: dot products on x86 with VNNI and on Arm
  with asimddp (a Raspberry Pi 5), widening multiplications on plain NEON (a Raspberry Pi 4), and for matmuls the matrix
  instructions of i8mm. It takes a tenth of the instructions of single precision everywhere, and scalar code nowhere. Unsigned
  weights would use i8mm for convolutions as well, but not VNNI on x86.
- x86 without VNNI adds every two neighbouring results in 16 bits, which overflow: 255 × (127 + 127) is twice what they hold.
  There are two remedies. Measured at full size on synthetic weights; times are for a clip on two cores of a VNNI processor of
  which only AVX2 was used:

  | | weights made unsigned when loaded | no two neighbours above 128 | weights of 7 bits |
  |---|---|---|---|
  | matmuls of the DiT and T5 | **31.0 dB**; a tenth slower, loads in 3 s instead of 1 | 28.8 dB | |
  | convolutions of the decoder | 41.2 dB; 9 to 10 s instead of 6 to 7 | **41.0 dB** | 38.5 dB |

  So the weights of the DiT and T5 are made unsigned, by ONNX Runtime and on such processors alone (`runtime.sessions` asks for
  it). The decoder's weights are small enough (`overflow`), which keeps the fastest kernels everywhere. Activations of 7 bits
  would cost at least as much as weights of 7 bits, because most of the loss comes from activations.
- Weights are at least −127: plain NEON adds two results in 16 bits, which hold 2 × 127 × 128 but not 2 × 128 × 128.
- `MatMulNBits` in 8 bits is not used: it has no kernels for plain NEON or for x86 before AVX2, and computes in single precision
  there. 4 bits are no faster on any Arm core.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import cast

import onnx
import torch
from torch import Tensor, nn

from sao_onnx_convert.export.builder import Array, GraphBuilder
from sao_onnx_convert.family.stable_audio_open.dual_mono import mono_layers
from sao_onnx_convert.family.stable_audio_open.networks.autoencoder import DecoderSegment, without_parametrization
from sao_onnx_convert.family.stable_audio_open.transformer import MatmulName
from sao_onnx_convert.quantize.decoder import DecoderBuilder
from sao_onnx_convert.quantize.matmul import gated_matmuls, quantize_matmuls, rotated_row_matmuls, row_matmuls
from sao_onnx_convert.quantize.ranges import Observer
from sao_onnx_convert.quantize.weights import store_convolutions_in_int8, store_tables_in_int8

MIN_SNR = {"text_encoder": 30.0, "context": 30.0, "dit": 30.0, "decoder": 40.0, "encoder": 40.0}
"""Signal-to-noise ratio in decibels that each part should keep against PyTorch, the decoder as a whole. A part below it is
reported, and not refused."""

RUINED = {"decoder": 20.0, "encoder": 20.0}
"""Signal-to-noise ratio in decibels below which a part stays in single precision: such a loss is heard, whatever 8 bits save.
(The DiT has no such limit, because the steps of sampling correct each other.) It happens to decoders of quiet sounds, whose
scales have to reach the peaks of loud ones."""


def dit_matmuls(graph: GraphBuilder, x: str, matrices: Sequence[Array], name: MatmulName) -> list[str]:
    """The matmuls of the DiT's blocks: by rows, and the input of the feed-forward's second Linear rotated."""
    return (rotated_row_matmuls if name == "down" else row_matmuls)(graph, x, matrices)


def dit_feed_forward(graph: GraphBuilder, x: str, gate: Sequence[Array], biases: Sequence[Array], down: Array) -> str | None:
    """The feed-forward of the DiT's blocks: `dit_matmuls` and the gate between them as one function."""
    return gated_matmuls(graph, x, gate, biases, down)


def text_encoder(model: onnx.ModelProto) -> None:
    """T5, in place: every Linear by blocks, because its activations have outliers; a scale for each row of the token table."""
    quantize_matmuls(model)
    store_tables_in_int8(model)


def audio_encoder(model: onnx.ModelProto) -> None:
    """The autoencoder's encoder, in place: only the weights are stored in 8 bits. It runs at most once for a clip."""
    store_convolutions_in_int8(model)


BuildDecoder = Callable[[str, str], onnx.ModelProto]
"""Builds a graph of the decoder, given the names of its input and output."""


def decoder(segments: Sequence[DecoderSegment], latents: Sequence[Tensor]) -> list[BuildDecoder]:
    """Calibrate the decoder, and prepare its graphs.

    Args:
        segments: The whole decoder, in order.
        latents: To calibrate with, [1, channels, n] each.

    Returns:
        A builder for the graph of each segment.
    """
    mono = mono_layers([segment.layers for segment in segments])
    copies = 1 if mono is None else 2
    layers = mono or [segment.layers for segment in segments]
    plain = [cast(nn.Sequential, without_parametrization(each)) for each in layers]
    whole = nn.Sequential(*plain)
    observer = Observer(whole)
    with torch.no_grad():
        for excerpt in latents:
            whole(excerpt.reshape(copies, excerpt.shape[1] // copies, excerpt.shape[2]))
    activations = observer.finish()
    return [functools.partial(DecoderBuilder(activations, copies).build, each) for each in plain]
