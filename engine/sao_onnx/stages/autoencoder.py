"""The autoencoder: latents to audio, tile by tile, and audio to latents."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Protocol

import numpy as np

from sao_onnx.arrays import Array
from sao_onnx.bundle.encoder_tiles import encoder_tile
from sao_onnx.bundle.manifest import Latents, SegmentTiling
from sao_onnx.runtime.sessions import GraphSession
from sao_onnx.sampling.noise import Noise

PIECE = 32
"""Latents whose audio is yielded together: 1.5 s in the released model."""


class Decoder:
    """Latents to audio, through two or three graphs. The first graph runs over the whole clip, the others run over tiles.

    The input of each tile includes all frames around the tile that influence its output. So the size of the tiles does not
    change the audio. Several tiles run at the same time, with one thread each, because ONNX Runtime runs many of the decoder's
    operators on a single thread.

    Args:
        segments: How each segment of the decoder is run.
        ratio: Audio frames for one latent.
        graphs: The graph of each segment.
        workers: Tiles that run at the same time.
        piece: Latents whose audio is yielded together.
    """

    def __init__(
        self,
        segments: Sequence[SegmentTiling],
        ratio: int,
        graphs: Sequence[GraphSession],
        workers: int,
        piece: int = PIECE,
    ) -> None:
        self._segments = tuple(segments)
        self._rates = (*(segment.rate for segment in segments), ratio)
        self._graphs = tuple(graphs)
        self._workers = workers
        self._piece = piece

    def pieces(self, frames: int) -> int:
        """Number of pieces in which `frames` audio frames are yielded."""
        return math.ceil(frames / (self._piece * self._rates[-1]))

    def __call__(self, latents: Array, frames: int) -> Iterator[Array]:
        """Decode latents piece by piece, from the start to the end.

        Args:
            latents: float32 [b, latent channels, n].
            frames: Wanted audio frames, at most ratio × n. What follows them is not decoded.

        Yields:
            The audio of each piece, float32 [b, channels, m]. All pieces together have the wanted number of frames; or a few
            less, at the end of the latents, where the autoencoder has odd strides.
        """
        (features,) = self._graphs[0].run(**{self._graphs[0].inputs[0]: latents})
        length = self._piece * self._rates[-1]
        with ThreadPoolExecutor(self._workers) as pool:
            signal = self._chain(features, frames, pool)
            for start in range(0, frames, length):
                signal.make(start, min(start + length, frames))
                yield signal.read(start, min(start + length, frames))

    def _chain(self, features: Array, frames: int, pool: Executor) -> _Signal:
        """The audio, computed on demand from the output of the first graph."""
        # How many frames of each graph's output are needed, from the last graph to the second.
        wanted = [frames]
        for i in range(len(self._segments) - 1, 1, -1):
            wanted.append(-(-wanted[-1] * self._rates[i] // self._rates[i + 1]) + self._segments[i].context)
        signal: _Signal = _Whole(features)
        for i, limit in enumerate(reversed(wanted), start=1):
            signal = _Tiles(signal, self._graphs[i], self._segments[i], self._rates[i + 1], limit, self._workers, pool)
        return signal


class _Signal(Protocol):
    """Features or audio, float32 [b, channels, frames], of which parts are computed on demand."""

    def make(self, start: int, stop: int) -> None:
        """Compute frames `start` to `stop`, and drop those before `start`. From call to call both numbers may only grow."""

    def read(self, start: int, stop: int) -> Array:
        """Frames that have been computed; fewer where the signal ends. Safe to call from several threads at once."""


class _Whole:
    """A signal that has been computed as a whole."""

    def __init__(self, array: Array) -> None:
        self._array = array

    def make(self, start: int, stop: int) -> None:
        pass

    def read(self, start: int, stop: int) -> Array:
        return self._array[:, :, start:stop]


class _Tiles:
    """The output of a graph, computed tile by tile. Every tile is computed once.

    Args:
        source: The graph's input.
        graph: The graph.
        segment: How the graph is run.
        rate: Frames of its output for one latent.
        limit: Number of frames of its output that are needed in all.
        workers: Tiles that run at the same time.
        pool: Runs them.
    """

    def __init__(
        self,
        source: _Signal,
        graph: GraphSession,
        segment: SegmentTiling,
        rate: int,
        limit: int,
        workers: int,
        pool: Executor,
    ) -> None:
        self._source = source
        self._graph = graph
        self._upsampling = rate // segment.rate
        self._context = segment.context
        self._length = segment.tile * rate
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
            # A multiple of the number of workers, so that no worker is without a tile while the others run.
            batch = self._workers * self._length
            end = min(made + -(-(stop - made) // batch) * batch, self._limit)
            self._source.make(*self._input_range(made, end))
            self._tiles.extend(self._pool.map(self._tile, range(made, end, self._length)))

    def read(self, start: int, stop: int) -> Array:
        first = start // self._length
        begin = first * self._length
        tiles = self._tiles[first - self._first : -(-stop // self._length) - self._first]
        joined = tiles[0] if len(tiles) == 1 else np.concatenate(tiles, axis=2)
        return joined[:, :, start - begin : stop - begin]

    def _tile(self, start: int) -> Array:
        stop = min(start + self._length, self._limit)
        first, last = self._input_range(start, stop)
        (output,) = self._graph.run(**{self._graph.inputs[0]: self._source.read(first, last)})
        return output[:, :, start - first * self._upsampling : stop - first * self._upsampling]

    def _input_range(self, start: int, stop: int) -> tuple[int, int]:
        """First and last frame of the input on which frames `start` to `stop` of the output depend."""
        return max(0, start // self._upsampling - self._context), -(-stop // self._upsampling) + self._context


class Encoder:
    """Audio to latents, in tiles of one length.

    Each tile is encoded with the audio around it that influences its latents. So the tiles change nothing but the order in
    which single precision is added up. They bound the memory: it grows with what is encoded at once.

    Args:
        graph: Audio to mean and standard deviation of the latents.
        latents: What they are, with the margin of a tile; without a margin there is one tile.
    """

    def __init__(self, graph: GraphSession, latents: Latents) -> None:
        self._graph = graph
        self._latents = latents

    def __call__(self, audio: Array, noise: Noise) -> Array:
        """Sample latents of audio: `z = mean + stdev · noise`, as `vae_sample` of stable-audio-tools does.

        Args:
            audio: float32 [b, channels, ratio × n].
            noise: One array of the latents' shape is drawn from it.

        Returns:
            float32 [b, latent channels, n].
        """
        count = audio.shape[2] // self._latents.ratio
        length, margin = encoder_tile(self._latents, count)
        mean, stdev = (np.concatenate(parts, axis=2) for parts in zip(*self._tiles(audio, count, length, margin), strict=True))
        return mean + stdev * noise.normal(mean.shape)

    def _tiles(self, audio: Array, count: int, length: int, margin: int) -> Iterator[list[Array]]:
        """Mean and standard deviation of the latents, tile by tile. The first and the last latents have no margin."""
        made = 0
        while made < count:
            # All tiles are of one length, so that the memory of one serves the next.
            first = min(max(0, made - margin), count - length)
            stop = count if first + length == count else first + length - margin
            around = audio[:, :, first * self._latents.ratio : (first + length) * self._latents.ratio]
            outputs = self._graph.run(audio=np.ascontiguousarray(around))
            yield [output[:, :, made - first : stop - first] for output in outputs]
            made = stop
