"""Parity with the reference: every array of the golden data, through the converted bundle."""

from __future__ import annotations

import numpy as np
import pytest

import sao_onnx
from sao_onnx.runtime.sessions import GraphSession, SessionFactory
from sao_onnx.sampling.noise import Noise
from sao_onnx.sampling.objectives import OBJECTIVES
from sao_onnx.sampling.samplers import SAMPLERS
from sao_onnx.stages.autoencoder import Decoder, Encoder
from sao_onnx.stages.conditioning import Conditioner
from sao_onnx.stages.denoiser import Denoiser
from sao_onnx.stages.tokenizer import Tokenizer

RATE = 44100


@pytest.fixture(scope="module")
def engine(golden_bundle):
    return sao_onnx.load(golden_bundle, threads=2)


@pytest.fixture(scope="module")
def graph(engine):
    factory = SessionFactory(2)

    def make(role):
        entry = engine.manifest.graph(role, "fp32")
        return GraphSession(factory, engine.bundle.path(entry.path), entry)

    return make


@pytest.fixture(scope="module")
def conditioner(engine, graph):
    config = engine.manifest.conditioning
    tokenizer = Tokenizer(engine.bundle.path("tokenizer.json"), config.prompt)
    return Conditioner(config, tokenizer, graph("text_encoder"), graph("number_conditioner"))


@pytest.fixture(scope="module")
def conditioning(conditioner, golden):
    return conditioner([str(prompt) for prompt in golden["prompts"]], {"seconds_total": golden["seconds_total"]})


def _close(found, expected, tolerance):
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)


def test_ids_and_mask(engine, golden):
    tokenizer = Tokenizer(engine.bundle.path("tokenizer.json"), engine.manifest.conditioning.prompt)
    ids, mask = tokenizer([str(prompt) for prompt in golden["prompts"]])
    np.testing.assert_array_equal(ids, golden["input_ids"])
    np.testing.assert_array_equal(mask, golden["attention_mask"])


def test_conditioning(conditioning, golden):
    _close(conditioning.cross_attention, golden["cross_attn_cond"], 1e-5)
    _close(conditioning.global_condition, golden["global_cond"], 1e-5)
    _close(conditioning.cross_attention[:, :64], golden["prompt_embedding"], 1e-5)
    _close(conditioning.cross_attention[:, 64:], golden["seconds_total_embedding"], 1e-5)


def test_prompts_are_conditioned_alone_as_in_a_batch(conditioner, golden):
    for i, prompt in enumerate(golden["prompts"]):
        alone = conditioner([str(prompt)], {"seconds_total": golden["seconds_total"][i : i + 1]})
        _close(alone.cross_attention[0], golden["cross_attn_cond"][i], 1e-5)


def test_velocity(graph, golden):
    keys, values = graph("context").run(cross_attention=golden["cross_attn_cond"])
    (velocity,) = graph("dit").run(
        latents=golden["dit_x"],
        times=golden["dit_t"],
        keys=keys,
        values=values,
        global_condition=golden["global_cond"],
    )
    _close(velocity, golden["dit_v"], 1e-4)


@pytest.fixture(scope="module")
def decode(engine, graph):
    manifest = engine.manifest
    graphs = [graph(role) for role in manifest.decoder_roles]

    def run(latents, piece=32):
        decoder = Decoder(manifest.decoder, manifest.latents.ratio, graphs, workers=2, piece=piece)
        return np.concatenate(list(decoder(latents, manifest.audio.window)), axis=2)

    return run


@pytest.mark.parametrize("piece", [1, 5, 32, 64])
def test_decoder(decode, golden, piece):
    _close(decode(golden["decode_z"], piece), golden["decode_audio"], 1e-4)


def test_encoder(graph, golden):
    mean, stdev = graph("encoder").run(audio=golden["encode_audio"])
    _close(mean, golden["encode_mean"], 1e-4)
    _close(stdev, golden["encode_stdev"], 1e-4)
    sampled = Encoder(graph("encoder"))(golden["encode_audio"], Noise(4))
    _close(sampled, golden["encode_mean"] + golden["encode_stdev"] * Noise(4).normal(mean.shape), 1e-4)


RUNS = {
    "pingpong": {},
    "pingpong_4steps_seed7": {"request": 1, "steps": 4, "seed": 7},
    "pingpong_cfg": {"cfg_scale": 3.5},
    "euler": {"sampler": "euler"},
    "dpmpp": {"sampler": "dpmpp"},
    "init_audio": {"init_audio": 3072, "init_noise_level": 0.7},
    "short": {"window_seconds": 16 * 64 / RATE},
}


@pytest.mark.parametrize("name", RUNS)
def test_runs(engine, golden, name):
    options = {"seed": 42} | RUNS[name]
    request = options.pop("request", 0)
    if "init_audio" in options:
        options["init_audio"] = (golden["encode_audio"][0][:, : options["init_audio"]], RATE)
    clip = engine.generate(
        str(golden["prompts"][request]),
        seconds=float(golden["seconds_total"][request]),
        full_window=True,
        normalize="none",
        **options,
    )
    _close(clip.latents[None], golden[f"{name}_latents"], 1e-4)
    _close(clip.samples[None], golden[f"{name}_audio"], 1e-4)


def _sample(decode, engine, predict, count, golden, name):
    """Sample and decode a run that `generate` does not offer, stage by stage."""
    noise = Noise(42)
    shape = (count, engine.manifest.latents.channels, engine.manifest.window_latents)
    objective = OBJECTIVES[engine.manifest.sampling.objective]
    start, sigmas = noise.normal(shape), objective.sigmas(8)
    *_, last = SAMPLERS["pingpong"](predict, objective, start, sigmas, lambda: noise.normal(shape))
    _close(last.latents, golden[f"{name}_latents"], 1e-4)
    _close(decode(last.latents), golden[f"{name}_audio"], 1e-4)


def test_run_batch_of_three(engine, graph, decode, conditioner, golden):
    chosen = [0, 1, 3]
    conditioning = conditioner(
        [str(golden["prompts"][i]) for i in chosen], {"seconds_total": [golden["seconds_total"][i] for i in chosen]}
    )
    predict = Denoiser(graph("context"), graph("dit")).prediction(conditioning)
    _sample(decode, engine, predict, 3, golden, "pingpong_batch3")


def test_run_with_a_negative_prompt_of_its_own_duration(engine, graph, decode, conditioner, golden):
    positive = conditioner([str(golden["prompts"][0])], {"seconds_total": golden["seconds_total"][:1]})
    negative = conditioner(["noise, hiss"], {"seconds_total": [11.0]})
    predict = Denoiser(graph("context"), graph("dit")).guided(positive, negative, 3.5)
    _sample(decode, engine, predict, 1, golden, "pingpong_negative")


def test_every_run_is_covered(golden):
    runs = {name.removesuffix("_latents") for name in golden if name.endswith("_latents")}
    assert runs == {*RUNS, "pingpong_batch3", "pingpong_negative"}
