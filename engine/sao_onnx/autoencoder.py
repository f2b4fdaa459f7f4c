"""Latents to audio in tiles, and audio to latents."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any

import numpy as np

from sao_onnx.manifest import DecoderStage
from sao_onnx.noise import Noise
from sao_onnx.sessions import GraphSession

Array = np.ndarray[Any, np.dtype[np.float32]]

PIECE = 32
"""Latents that are decoded before they are handed on: 1.5 s of the released model."""


class Decoder:
    """Latents to audio, through graphs of rising rate: the first over the whole clip, the others in tiles.

    Every tile sees enough of its neighbours to be exact, so where the tiles are cut cannot be heard or measured. Tiles run side
    by side, each on one thread: much of a decoder's work are operators that ONNX Runtime does not spread over threads.

    Args:
        stages: How the decoder is cut.
        ratio: Audio frames per latent.
        graphs: One for each stage.
        workers: Tiles that run at the same time.
        piece: Latents in a piece.
    """

    def __init__(
        self,
        stages: Sequence[DecoderStage],
        ratio: int,
        graphs: Sequence[GraphSession],
        workers: int,
        piece: int = PIECE,
    ) -> None:
        self._stages = tuple(stages)
        self._rates = (*(stage.rate for stage in stages), ratio)
        self._graphs = tuple(graphs)
        self._workers = workers
        self._piece = piece

    def pieces(self, frames: int) -> int:
        """Pieces that so many audio frames come in."""
        return math.ceil(frames / (self._piece * self._rates[-1]))

    def __call__(self, latents: Array, frames: int) -> Iterator[Array]:
        """Decode in order.

        Args:
            latents: float32 [b, latent channels, n].
            frames: Audio frames that are wanted, at most ratio × n; what lies past them is not decoded.

        Yields:
            Audio of each piece, float32 [b, channels, m]. Together they are the wanted frames; a few less at the end of the
            window where the autoencoder has odd strides.
        """
        (features,) = self._graphs[0].run(**{self._graphs[0].inputs[0]: latents})
        length = self._piece * self._rates[-1]
        with ThreadPoolExecutor(self._workers) as pool:
            for start in range(0, frames, length):
                yield self._output(len(self._stages) - 1, start, min(start + length, frames), features, pool)

    def _output(self, stage: int, start: int, stop: int, features: Array, pool: Executor) -> Array:
        """Frames `start` to `stop` of a stage's output, or up to the end of the clip if that comes first."""
        if stage == 0:
            return features[:, :, start:stop]
        upsampling = self._rates[stage + 1] // self._rates[stage]
        context, graph = self._stages[stage].context, self._graphs[stage]
        first = max(0, start // upsampling - context)
        source = self._output(stage - 1, first, -(-stop // upsampling) + context, features, pool)

        def tile(begin: int) -> Array:
            end = min(begin + length, stop)
            low = max(first, begin // upsampling - context)
            high = -(-end // upsampling) + context
            (output,) = graph.run(**{graph.inputs[0]: source[:, :, low - first : high - first]})
            return output[:, :, begin - low * upsampling : end - low * upsampling]

        length = self._stages[stage].tile * self._rates[stage + 1]
        return np.concatenate(list(pool.map(tile, range(start, stop, length))), axis=2)


class Encoder:
    """Audio to latents."""

    def __init__(self, graph: GraphSession) -> None:
        self._graph = graph

    def __call__(self, audio: Array, noise: Noise) -> Array:
        """Draw latents of a clip: `z = mean + stdev·noise`, as `vae_sample` of stable-audio-tools does.

        Args:
            audio: float32 [b, channels, ratio × n].
            noise: Drawn from once, for the latents' shape.

        Returns:
            float32 [b, latent channels, n].
        """
        mean, stdev = self._graph.run(audio=audio)
        return mean + stdev * noise.normal(mean.shape)
