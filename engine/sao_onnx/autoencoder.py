"""Latents to audio in tiles, and audio to latents."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Sequence
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
            signal = self._chain(lambda start, stop: features[:, :, start:stop], frames, pool)
            for start in range(0, frames, length):
                yield signal(start, min(start + length, frames))

    def _chain(self, features: Signal, frames: int, pool: Executor) -> Signal:
        """The audio, from the features that the first stage makes, as far as it is asked for."""
        limit, tiled = frames, []
        for i in reversed(range(1, len(self._stages))):
            tiles = _Tiles(self._graphs[i], self._stages[i], self._rates[i + 1], limit, self._workers, pool)
            tiled.append(tiles)
            limit = tiles.needed(limit)
        for tiles in reversed(tiled):
            features = functools.partial(tiles.frames, features)
        return features


Signal = Callable[[int, int], Array]
"""Frames `start` to `stop`, or up to the signal's end if that comes first. Neither may come before what was asked for last."""


class _Tiles:
    """What a stage makes of a clip, tile after tile as it is asked for. Every tile is made once.

    Args:
        graph: The stage's.
        stage: Its place in the decoder.
        rate: Frames per latent of its output.
        limit: Frames of its output that will be asked for in all.
        workers: Tiles that run at the same time.
        pool: Runs them.
    """

    def __init__(self, graph: GraphSession, stage: DecoderStage, rate: int, limit: int, workers: int, pool: Executor) -> None:
        self._graph = graph
        self._upsampling = rate // stage.rate
        self._context = stage.context
        self._length = stage.tile * rate
        self._limit = limit
        self._workers = workers
        self._pool = pool
        self._first = 0
        self._tiles: list[Array] = []

    def needed(self, stop: int) -> int:
        """Frames of input that output up to a frame depends on."""
        return -(-stop // self._upsampling) + self._context

    def frames(self, source: Signal, start: int, stop: int) -> Array:
        """The output as a `Signal`, from the input."""
        passed = start // self._length - self._first
        self._first += passed
        del self._tiles[:passed]
        made = (self._first + len(self._tiles)) * self._length
        if made < stop:
            # As many as keep every worker busy: a worker without a tile would wait for the others.
            batch = self._workers * self._length
            end = min(made + -(-(stop - made) // batch) * batch, self._limit)
            low = self._seen_from(made)
            features = source(low, self.needed(end))

            def tile(begin: int) -> Array:
                stop = min(begin + self._length, end)
                first = self._seen_from(begin)
                (output,) = self._graph.run(**{self._graph.inputs[0]: features[:, :, first - low : self.needed(stop) - low]})
                return output[:, :, begin - first * self._upsampling : stop - first * self._upsampling]

            self._tiles.extend(self._pool.map(tile, range(made, end, self._length)))
        begin = self._first * self._length
        return np.concatenate(self._tiles, axis=2)[:, :, start - begin : stop - begin]

    def _seen_from(self, start: int) -> int:
        """The first frame of input that output from a frame depends on."""
        return max(0, start // self._upsampling - self._context)


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
