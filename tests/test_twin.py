"""Autoencoders that are two equal halves: one half of them is exported."""

from __future__ import annotations

import json
import shutil

import numpy as np
import onnx
import pytest
import torch
from safetensors.torch import load_file, save_file

import sao_onnx
from models.sao_tiny.stereo import mono, stereo
from sao_onnx.bundle.bundle import open_bundle
from sao_onnx.runtime.sessions import SessionFactory
from sao_onnx_convert import convert
from sao_onnx_convert.family.stable_audio_open.dual_mono import (
    DualMono,
    DualMonoEncoder,
    as_dual_mono,
    mono_autoencoder,
    mono_layers,
)
from sao_onnx_convert.family.stable_audio_open.networks.autoencoder import Autoencoder, split_decoder
from sao_onnx_convert.family.stable_audio_open.parts import AudioEncoder
from sao_onnx_convert.source.config import load_config
from sao_onnx_convert.source.config_fields import OobleckDecoderConfig, OobleckEncoderConfig
from tests.conftest import MINIATURE

PREFIX = "pretransform.model."


def _autoencoder(seed=0):
    """One of two equal halves, and its configuration."""
    config = load_config(MINIATURE / "model_config.json").model.pretransform.config
    torch.manual_seed(seed)
    half = mono(config)
    with torch.no_grad():
        for parameter in half.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return stereo(config, half), config


@pytest.fixture(scope="module")
def halves():
    return _autoencoder()


@pytest.fixture(scope="module")
def bundles(checkpoint, miniature, halves, tmp_path_factory):
    """The miniature as it is kept, and the same with an autoencoder of two equal halves, in both precisions."""
    folder = tmp_path_factory.mktemp("halves")
    shutil.copytree(checkpoint, folder / "checkpoint")
    path = folder / "checkpoint" / "model.safetensors"
    tensors = load_file(path)
    tensors |= {PREFIX + name: value.half().contiguous() for name, value in halves[0].state_dict().items()}
    save_file(tensors, path)
    converted = convert(folder / "checkpoint", checkpoint / "t5", folder / "bundle", precisions=("fp32", "int8"))
    return {"ordinary": open_bundle(miniature), "halves": converted}


def _graph(bundle, role, precision="fp32"):
    return onnx.load(bundle.path(bundle.manifest.graph(role, precision).path))


def _weights(bundle, role, precision="fp32"):
    """Numbers in the kernels of convolutions and in matrices."""
    return sum(np.prod(tensor.dims) for tensor in _graph(bundle, role, precision).graph.initializer if len(tensor.dims) > 2)


def _size(bundle, graph):
    return sum(bundle.path(path).stat().st_size for path in (graph.path, *graph.weights))


def test_weights_are_stored_once(bundles):
    roles = ("encoder", *bundles["halves"].manifest.decoder_roles)
    for role in roles:
        # Half of the inputs and half of the outputs.
        assert _weights(bundles["halves"], role) == _weights(bundles["ordinary"], role) / 4, role
    for precision in ("fp32", "int8"):
        sizes = {
            name: sum(_size(bundle, bundle.manifest.graph(role, precision)) for role in roles)
            for name, bundle in bundles.items()
        }
        assert sizes["halves"] < sizes["ordinary"], precision


def test_every_graph_is_as_close_as_any(bundles):
    graphs = bundles["halves"].manifest.graphs
    assert all(graph.max_error <= 1e-4 for graph in graphs if graph.precision == "fp32")
    last = bundles["halves"].manifest.decoder_roles[-1]
    rounded = {graph.role: graph for graph in graphs if graph.precision == "int8"}
    assert rounded["encoder"].snr > 30
    # In 8 bits it is the half as well, and not single precision in its place.
    assert rounded[last].path.startswith("int8/")
    assert rounded[last].snr > 30
    assert "Reshape" in {node.op_type for node in _graph(bundles["halves"], last, "int8").graph.node}


def test_audio_goes_through_both_halves(bundles, halves):
    manifest = bundles["halves"].manifest
    latents = torch.randn(1, 8, 40, generator=torch.Generator().manual_seed(1))
    expected = halves[0].decoder(latents).numpy()
    for precision, least in (("fp32", 50), ("int8", 25)):
        x = latents.numpy()
        for role in manifest.decoder_roles:
            session = SessionFactory().session(bundles["halves"].path(manifest.graph(role, precision).path))
            (x,) = session.run(None, {session.get_inputs()[0].name: x})
        noise = np.square(x - expected).sum()
        assert 10 * np.log10(np.square(expected).sum() / noise) > least, precision


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_clip_comes_out(bundles, precision):
    engine = sao_onnx.load(bundles["halves"].folder, precision=precision)
    clip = engine.generate("slow rain", seconds=1.0, seed=3)
    assert clip.samples.shape == (2, 44100)
    assert np.abs(clip.samples).max() > 0
    of_clip, of_silence = (
        engine.generate("slow rain", seconds=1.0, init_audio=(audio, 44100), init_noise_level=0.3, seed=3)
        for audio in (clip.samples, 0 * clip.samples)
    )
    assert np.abs(of_clip.latents - of_silence.latents).max() > 0.01


def test_halves_compute_what_the_whole_does(halves):
    model, config = halves
    audio = torch.randn(3, 2, 4 * config.downsampling_ratio)
    half = mono_autoencoder(model)
    assert half is not None
    torch.testing.assert_close(DualMonoEncoder(half)(audio), AudioEncoder(model)(audio), rtol=1e-4, atol=1e-5)
    latents = torch.randn(3, config.latent_dim, 12)
    stages = [stage.layers for stage in split_decoder(model.decoder, config.decoder.config.strides)]
    x = y = latents
    for layers in stages:
        assert isinstance(as_dual_mono(layers), DualMono)
        x, y = as_dual_mono(layers)(x), layers(y)
    torch.testing.assert_close(x, y, rtol=1e-4, atol=1e-5)
    mono = mono_layers(stages)
    assert mono is not None
    assert len(mono) == len(stages)


def test_an_ordinary_autoencoder_is_left_as_it_is():
    config = load_config(MINIATURE / "model_config.json").model.pretransform.config
    model = Autoencoder(config.encoder.config, config.decoder.config)
    assert mono_autoencoder(model) is None
    assert as_dual_mono(model.decoder) is model.decoder
    stages = [stage.layers for stage in split_decoder(model.decoder, config.decoder.config.strides)]
    assert mono_layers(stages) is None


@pytest.mark.parametrize("part", ["weight_v", "between", "weight_g", "bias", "alpha", "beta"])
@pytest.mark.parametrize("side", ["encoder", "decoder"])
def test_halves_that_differ_stay_together(part, side):
    model, config = _autoencoder()
    layers = getattr(model, side).layers
    with torch.no_grad():
        if part in ("alpha", "beta"):
            getattr(layers[2].layers[0 if side == "decoder" else 3], part)[0] += 1e-3
        else:
            weight = getattr(layers[0], "weight_v" if part == "between" else part)
            place = tuple(0 for _ in weight.shape)
            weight[(0, -1, 0) if part == "between" else place] += 1e-3
    if side == "encoder":
        assert mono_autoencoder(model) is None
    else:
        stages = [stage.layers for stage in split_decoder(model.decoder, config.decoder.config.strides)]
        assert mono_layers(stages) is None
        assert any(as_dual_mono(layers) is layers for layers in stages)


@pytest.mark.parametrize("latents", [3, 5, 6])
def test_any_number_of_latents(latents):
    encoder = OobleckEncoderConfig(
        in_channels=2, channels=4, c_mults=(1, 2), strides=(2, 4), latent_dim=2 * latents, use_snake=True
    )
    decoder = OobleckDecoderConfig(out_channels=2, channels=4, c_mults=(1, 2), strides=(2, 4), latent_dim=latents)
    assert mono_autoencoder(Autoencoder(encoder, decoder)) is None


def test_zeros_alone_are_no_halves_of_one_channel():
    """Of one channel there is no half, whatever its weights are."""
    config = json.loads((MINIATURE / "model_config.json").read_text())["model"]["pretransform"]["config"]
    encoder, decoder = config["encoder"]["config"], config["decoder"]["config"]
    model = Autoencoder(
        OobleckEncoderConfig(**(encoder | {"in_channels": 1})), OobleckDecoderConfig(**(decoder | {"out_channels": 1}))
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert mono_autoencoder(model) is None
