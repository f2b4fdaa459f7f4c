"""The encoder in tiles: that they change nothing, and how far a stretch of audio is heard."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import numpy as np
import pytest
import torch

from sao_onnx.bundle.bundle import open_bundle
from sao_onnx.bundle.encoder_tiles import ENCODER_TILE, encoder_tile
from sao_onnx.bundle.manifest import Latents
from sao_onnx.runtime.sessions import GraphSession, SessionFactory
from sao_onnx.sampling.noise import Noise
from sao_onnx.stages.autoencoder import Encoder
from sao_onnx_convert.family.stable_audio_open.networks.autoencoder import Encoder as Network
from sao_onnx_convert.family.stable_audio_open.parts import encoder_margin
from sao_onnx_convert.source.config_fields import OobleckEncoderConfig
from tests.test_stages import Seen


@pytest.mark.parametrize("strides", [(2, 4, 4, 8, 8), (4, 8, 16), (4, 4, 4, 8), (2, 2), (3, 5), (5, 3), (16,), (7, 2)])
def test_the_margin_is_what_a_frame_reaches(strides):
    """NaN in a frame is in every latent that depends on it, and in no other."""
    config = OobleckEncoderConfig(channels=2, c_mults=(1,) * len(strides), strides=strides, latent_dim=4)
    network = Network(config)
    ratio, margin = int(np.prod(strides)), encoder_margin(strides)
    middle = margin + 2
    reached = set()
    for frame in (middle * ratio, (middle + 1) * ratio - 1):
        audio = torch.zeros(1, config.in_channels, (2 * middle + 1) * ratio)
        audio[0, 0, frame] = torch.nan
        with torch.no_grad():
            (found,) = torch.where(network(audio)[0].isnan().any(dim=0))
        reached |= {abs(int(latent) - middle) for latent in found}
    assert max(reached) == margin


@pytest.fixture(params=["int8", "fp32"])
def graph(request, miniature):
    bundle = open_bundle(miniature)
    entry = bundle.manifest.graph("encoder", request.param)
    return Seen(GraphSession(SessionFactory(1), bundle.path(entry.path), entry)), bundle.manifest.latents


def _encoded(graph, latents, audio):
    return Encoder(cast(GraphSession, graph), latents)(audio, Noise(5))


@pytest.mark.parametrize(("count", "tiles"), [(1, 1), (50, 1), (51, 2), (90, 2), (91, 3), (97, 3), (344, 9)])
def test_tiles_change_nothing(graph, count, tiles):
    seen, latents = graph
    audio = 0.3 * Noise(1).normal((2, 2, count * latents.ratio))
    whole = _encoded(seen, replace(latents, margin=None), audio)
    assert [shapes["audio"][2] for shapes in seen.shapes] == [count * latents.ratio]
    seen.shapes.clear()
    tiled = _encoded(seen, latents, audio)
    assert len(seen.shapes) == tiles
    (length,) = {shapes["audio"][2] for shapes in seen.shapes}
    assert length <= (ENCODER_TILE + 2 * latents.margin) * latents.ratio
    assert tiled.shape == whole.shape == (2, latents.channels, count)
    assert np.abs(tiled - whole).max() < 1e-6 * np.abs(whole).max()


def test_a_margin_that_is_too_small_would_be_heard(graph):
    seen, latents = graph
    audio = 0.3 * Noise(1).normal((1, 2, 100 * latents.ratio))
    whole = _encoded(seen, replace(latents, margin=None), audio)
    assert np.abs(_encoded(seen, replace(latents, margin=0), audio) - whole).max() > 1e-3


class _Counts:
    """A graph whose outputs are the numbers of the latents of its input."""

    def run(self, audio):
        return audio[:, :, ::4], audio[:, :, ::4]


class _Silence:
    def normal(self, shape):
        return np.zeros(shape, np.float32)


@pytest.mark.parametrize("margin", [None, 0, 1, 8, 10, 11, 40, 1000])
def test_every_latent_is_made_once_with_its_margins(margin, monkeypatch):
    latents = Latents(1, 4, margin)
    for count in (*range(1, 60), 255, 256, 344):
        audio = np.repeat(np.arange(count, dtype=np.float32), 4)[None, None]
        encoder = Encoder(cast(GraphSession, _Counts()), latents)
        np.testing.assert_array_equal(encoder(audio, cast(Noise, _Silence()))[0, 0], np.arange(count))
        length, around = encoder_tile(latents, count)
        assert 1 <= length <= count
        assert around == (margin or 0)
        assert length == count or 0 < length - 2 * around <= max(ENCODER_TILE, 4 * around)
