"""Latents to audio in tiles, and audio to latents."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from sao_onnx import manifest
from sao_onnx.noise import Noise
from sao_onnx.sessions import GraphSession

Array = np.ndarray[Any, np.dtype[np.float32]]

TILE = 32
"""Latents in a tile: 1.5 s of the released model. Activations grow with it, the share of overlap shrinks."""


class Decoder:
    """Latents to audio: the low-rate blocks over the whole clip, the high-rate blocks in tiles.

    Every tile sees enough of its neighbours to be exact, so where the tiles are cut cannot be heard or measured.

    Args:
        config: How the decoder is cut in two.
        ratio: Audio frames per latent.
        low: Latents to features.
        high: Features to audio.
        tile: Latents in a tile.
    """

    def __init__(self, config: manifest.Decoder, ratio: int, low: GraphSession, high: GraphSession, tile: int = TILE) -> None:
        self._config = config
        self._ratio = ratio
        self._low = low
        self._high = high
        self._tile = tile

    def pieces(self, frames: int) -> int:
        """Tiles that it takes to decode so many audio frames."""
        return math.ceil(math.ceil(frames / self._ratio) / self._tile)

    def __call__(self, latents: Array, frames: int) -> Iterator[Array]:
        """Decode in order.

        Args:
            latents: float32 [b, latent channels, n].
            frames: Audio frames that are wanted, at most ratio × n; tiles past them are not decoded.

        Yields:
            Audio of each tile, float32 [b, channels, m]. Together they are the wanted frames; a few less at the end of
            the window where the autoencoder has odd strides.
        """
        (features,) = self._low.run(latents=latents)
        rate, context = self._config.rate, self._config.context
        for piece in range(self.pieces(frames)):
            start = piece * self._tile
            stop = min(start + self._tile, latents.shape[2])
            first = max(0, start * rate - context)
            (audio,) = self._high.run(features=features[:, :, first : stop * rate + context])
            begin = (start * rate - first) * (self._ratio // rate)
            length = min(stop * self._ratio, frames) - start * self._ratio
            yield audio[:, :, begin : begin + length]


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
