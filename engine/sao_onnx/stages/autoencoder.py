"""Latents to audio in tiles, and audio to latents."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Protocol

import numpy as np

from sao_onnx.arrays import Array
from sao_onnx.bundle.manifest import DecoderStage
from sao_onnx.runtime.sessions import GraphSession
from sao_onnx.sampling.noise import Noise

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
            signal = self._chain(features, frames, pool)
            for start in range(0, frames, length):
                signal.make(start, min(start + length, frames))
                yield signal.read(start, min(start + length, frames))

    def _chain(self, features: Array, frames: int, pool: Executor) -> _Signal:
        """The audio, from what the first stage makes, as far as it is wanted."""
        # How much of each stage's output is wanted, from the last one's on.
        wanted = [frames]
        for i in range(len(self._stages) - 1, 1, -1):
            wanted.append(-(-wanted[-1] * self._rates[i] // self._rates[i + 1]) + self._stages[i].context)
        signal: _Signal = _Whole(features)
        for i, limit in enumerate(reversed(wanted), start=1):
            signal = _Tiles(signal, self._graphs[i], self._stages[i], self._rates[i + 1], limit, self._workers, pool)
        return signal


class _Signal(Protocol):
    """Features or audio, made as far as they are asked for."""

    def make(self, start: int, stop: int) -> None:
        """Have frames `start` to `stop` ready. Neither comes before what was asked for last; what lies before may be gone."""

    def read(self, start: int, stop: int) -> Array:
        """Frames that are ready, fewer where the signal ends. Safe to call from several threads at once."""


class _Whole:
    """A signal that is there in one piece."""

    def __init__(self, array: Array) -> None:
        self._array = array

    def make(self, start: int, stop: int) -> None:
        pass

    def read(self, start: int, stop: int) -> Array:
        return self._array[:, :, start:stop]


class _Tiles:
    """What a stage makes of a signal, tile after tile. Every tile is made once.

    Args:
        source: The stage's input.
        graph: The stage's.
        stage: Its place in the decoder.
        rate: Frames per latent of its output.
        limit: Frames of its output that will be asked for in all.
        workers: Tiles that run at the same time.
        pool: Runs them.
    """

    def __init__(
        self,
        source: _Signal,
        graph: GraphSession,
        stage: DecoderStage,
        rate: int,
        limit: int,
        workers: int,
        pool: Executor,
    ) -> None:
        self._source = source
        self._graph = graph
        self._upsampling = rate // stage.rate
        self._context = stage.context
        self._length = stage.tile * rate
        self._limit = limit
        self._workers = workers
        self._pool = pool
        self._first = 0
        self._tiles: list[Array] = []

    def make(self, start: int, stop: int) -> None:
        passed = start // self._length - self._first
        self._first += passed
        del self._tiles[:passed]
        made = (self._first + len(self._tiles)) * self._length
        if made < stop:
            # As many as keep every worker busy: a worker without a tile would wait for the others.
            batch = self._workers * self._length
            end = min(made + -(-(stop - made) // batch) * batch, self._limit)
            self._source.make(*self._seen(made, end))
            self._tiles.extend(self._pool.map(self._tile, range(made, end, self._length)))

    def read(self, start: int, stop: int) -> Array:
        first = start // self._length
        begin = first * self._length
        tiles = self._tiles[first - self._first : -(-stop // self._length) - self._first]
        joined = tiles[0] if len(tiles) == 1 else np.concatenate(tiles, axis=2)
        return joined[:, :, start - begin : stop - begin]

    def _tile(self, start: int) -> Array:
        stop = min(start + self._length, self._limit)
        first, last = self._seen(start, stop)
        (output,) = self._graph.run(**{self._graph.inputs[0]: self._source.read(first, last)})
        return output[:, :, start - first * self._upsampling : stop - first * self._upsampling]

    def _seen(self, start: int, stop: int) -> tuple[int, int]:
        """The frames of input that frames of output depend on."""
        return max(0, start // self._upsampling - self._context), -(-stop // self._upsampling) + self._context


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
