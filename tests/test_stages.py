"""What the stages promise of their graphs: which inputs they give them, how often they run, and what becomes of an error."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import cast

import numpy as np
import pytest

from sao_onnx.errors import NumericalError
from sao_onnx.runtime.sessions import GraphSession, SessionFactory
from sao_onnx.sampling.noise import Noise
from sao_onnx.stages.autoencoder import Decoder, Encoder
from sao_onnx.stages.conditioning import Conditioner
from sao_onnx.stages.tokenizer import Tokenizer


class Seen:
    """A graph that notes the shapes of its inputs and then answers, or fails from a certain run on."""

    def __init__(self, graph, fails_at=None):
        self._graph = graph
        self._fails_at = fails_at
        self.inputs = graph.inputs
        self.shapes = []

    def run(self, **inputs):
        self.shapes.append({name: array.shape for name, array in inputs.items()})
        if self._fails_at is not None and len(self.shapes) >= self._fails_at:
            raise NumericalError("no number")
        return self._graph.run(**inputs)


@pytest.fixture(scope="module")
def graph(engine):
    factory = SessionFactory(1)

    def make(role):
        entry = engine.manifest.graph(role, "fp32")
        return GraphSession(factory, engine.bundle.path(entry.path), entry)

    return make


def _conditioner(engine, text_encoder, numbers):
    config = engine.manifest.conditioning
    tokenizer = Tokenizer(engine.bundle.path("tokenizer.json"), config.prompt)
    return Conditioner(config, tokenizer, cast(GraphSession, text_encoder), numbers)


def test_a_graph_runs_from_several_threads_at_once(engine, graph):
    encoder = graph("encoder")
    ratio = engine.manifest.latents.ratio
    signals = [Noise(seed).normal((1, 2, 8 * ratio)) for seed in range(8)]
    expected = [encoder.run(audio=signal) for signal in signals]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda signal: encoder.run(audio=signal), signals))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_text_encoder_runs_on_the_longest_prompt_alone(engine, graph):
    text_encoder = Seen(graph("text_encoder"))
    conditioner = _conditioner(engine, text_encoder, graph("number_conditioner"))
    both = conditioner(["rain", "deep techno drum loop"], {"seconds_total": [1.0, 2.0]})
    # Four words and the end of the text.
    assert text_encoder.shapes == [{"input_ids": (2, 5), "attention_mask": (2, 5)}]
    length = engine.manifest.conditioning.prompt.max_length
    assert both.cross_attention.shape[1] == length + 1
    # One word and the end; what follows is padding, in the reference's sense: zeros.
    assert both.cross_attention[0, :2].any(axis=1).all()
    assert not both.cross_attention[0, 2:length].any()
    assert both.cross_attention[0, length].any()


def test_an_encoder_draws_one_array_of_the_latents_shape(engine, graph):
    shape = (2, engine.manifest.latents.channels, 5)
    used, other = Noise(7), Noise(7)
    Encoder(graph("encoder"), engine.manifest.latents)(np.zeros((2, 2, 5 * engine.manifest.latents.ratio), np.float32), used)
    other.normal(shape)
    np.testing.assert_array_equal(used.normal((16,)), other.normal((16,)))


@pytest.fixture
def decoder(engine, graph):
    """A decoder of one-latent tiles and pieces of two, and its last graph."""
    manifest = engine.manifest

    def make(fails_at=None, workers=2):
        *first, last = (graph(role) for role in manifest.decoder_roles)
        seen = Seen(last, fails_at)
        segments = [manifest.decoder[0], *(replace(segment, tile=1) for segment in manifest.decoder[1:])]
        return Decoder(segments, manifest.latents.ratio, [*first, cast(GraphSession, seen)], workers, piece=2), seen

    return make


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_in_a_tile_reaches_the_caller(engine, decoder, workers):
    """It happens in a thread of the decoder's own; pieces before it came out."""
    run, _ = decoder(fails_at=6, workers=workers)
    latents = Noise(1).normal((1, engine.manifest.latents.channels, 12))
    pieces = run(latents, 12 * engine.manifest.latents.ratio)
    assert next(pieces).shape[2] == 2 * engine.manifest.latents.ratio
    with pytest.raises(NumericalError, match="no number"):
        list(pieces)


def test_every_tile_is_made_once_and_none_past_what_is_wanted(engine, decoder):
    run, last = decoder()
    ratio = engine.manifest.latents.ratio
    latents = Noise(1).normal((1, engine.manifest.latents.channels, 12))
    assert sum(piece.shape[2] for piece in run(latents, 12 * ratio)) == 12 * ratio
    assert len(last.shapes) == 12
    last.shapes.clear()
    wanted = 4 * ratio + 1
    assert sum(piece.shape[2] for piece in run(latents, wanted)) == wanted
    assert len(last.shapes) == 5


def test_a_decoder_that_is_left_makes_no_more_tiles(engine, decoder):
    run, last = decoder(workers=1)
    latents = Noise(1).normal((1, engine.manifest.latents.channels, 12))
    pieces = run(latents, 12 * engine.manifest.latents.ratio)
    next(pieces)
    pieces.close()
    assert len(last.shapes) == 2


def test_latents_that_are_not_finite_are_found_out(engine):
    latents = np.full((engine.manifest.latents.channels, 4), np.nan, np.float32)
    with pytest.raises(NumericalError, match="decoder_1 returned NaN"):
        engine.decode(latents)
