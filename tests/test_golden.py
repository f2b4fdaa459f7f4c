"""Parity with the reference: every array of the golden data, through the bundle of its model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

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

# One of the miniature's prompts is longer than the model reads, and cut as the reference cuts it.
pytestmark = pytest.mark.filterwarnings("ignore::sao_onnx.stages.tokenizer.PromptWarning")


@pytest.fixture(scope="module")
def engine(golden_bundle):
    return sao_onnx.load(golden_bundle, precision="fp32", threads=2)


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
    _close(velocity, golden["dit_v"], 2e-5)


@pytest.fixture(scope="module")
def decode(engine, graph):
    manifest = engine.manifest
    graphs = [graph(role) for role in manifest.decoder_roles]

    def run(latents, piece=32):
        decoder = Decoder(manifest.decoder, manifest.latents.ratio, graphs, workers=2, piece=piece)
        return np.concatenate(list(decoder(latents, latents.shape[-1] * manifest.latents.ratio)), axis=2)

    return run


@pytest.mark.parametrize("piece", [1, 5, 32, 64])
def test_decoder(decode, golden, piece):
    _close(decode(golden["decode_z"], piece), golden["decode_audio"], 5e-6)


def test_encoder(engine, graph, golden):
    mean, stdev = graph("encoder").run(audio=golden["encode_audio"])
    _close(mean, golden["encode_mean"], 1e-5)
    _close(stdev, golden["encode_stdev"], 1e-5)
    sampled = Encoder(graph("encoder"), engine.manifest.latents)(golden["encode_audio"], Noise(4))
    _close(sampled, golden["encode_mean"] + golden["encode_stdev"] * Noise(4).normal(mean.shape), 1e-5)


RUNS: dict[str, dict[str, Any]] = {
    "pingpong": {},
    "pingpong_4steps_seed7": {"request": 1, "steps": 4, "seed": 7},
    "pingpong_cfg": {"cfg_scale": 3.5},
    "euler": {"sampler": "euler"},
    "dpmpp": {"sampler": "dpmpp"},
    "init_audio": {"init_noise_level": 0.7},
    "short": {},
}
"""Runs of the objective `rf_denoiser`: 8 steps, seed 42, the first request, unless they say otherwise."""

RECTIFIED_FLOW_RUNS: dict[str, dict[str, Any]] = {
    "rectified_flow_pingpong": {"steps": 20, "sampler": "pingpong"},
    "rectified_flow_euler": {},
    "rectified_flow_dpmpp": {"steps": 20, "sampler": "dpmpp"},
    "rectified_flow_init_audio": {"steps": 20, "cfg_scale": 1, "init_noise_level": 0.7},
}
"""Runs of the objective `rectified_flow`: 50 steps of Euler, cfg 7, seed 42, the first request, unless they say otherwise."""


def _check_run(engine, golden, name, options):
    """Generate what a run asks for, and compare it with what the reference made of it."""
    options = {"seed": 42} | options
    request = options.pop("request", 0)
    if "init_noise_level" in options:
        options["init_audio"] = (golden["encode_audio"][0][:, :3072], RATE)
    options["window_seconds"] = golden[f"{name}_latents"].shape[-1] * engine.manifest.latents.ratio / RATE
    clip = engine.generate(
        str(golden["prompts"][request]),
        seconds=float(golden["seconds_total"][request]),
        full_window=True,
        normalize="none",
        **options,
    )
    _close(clip.latents[None], golden[f"{name}_latents"], 5e-5)
    _close_audio(clip.samples[None], golden, name)


def _close_audio(found, golden, name):
    """Compare the samples of a run that were kept: in the miniature's data one in `audio_stride`, else all."""
    ratio = golden["decode_audio"].shape[-1] // golden["decode_z"].shape[-1]
    assert found.shape[-1] == golden[f"{name}_latents"].shape[-1] * ratio
    _close(found[..., :: int(golden.get("audio_stride", 1))], golden[f"{name}_audio"], 5e-6)


@pytest.mark.parametrize("name", RUNS)
def test_runs(engine, golden, name):
    _check_run(engine, golden, name, RUNS[name])


@pytest.fixture(scope="module")
def rectified_flow(golden_bundle, tmp_path_factory):
    """The same networks, said to be of the other objective, with that objective's defaults."""
    folder = Path(shutil.copytree(golden_bundle, tmp_path_factory.mktemp("rectified_flow") / "bundle"))
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    manifest["sampling"] = {"objective": "rectified_flow", "sampler": "euler", "steps": 50, "cfg_scale": 7.0}
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    return sao_onnx.load(folder, precision="fp32", threads=2)


@pytest.mark.parametrize("name", RECTIFIED_FLOW_RUNS)
def test_runs_of_rectified_flow(rectified_flow, golden, name):
    if f"{name}_latents" not in golden:
        pytest.skip("the larger golden data has no runs of this objective")
    _check_run(rectified_flow, golden, name, RECTIFIED_FLOW_RUNS[name])


def _sample(decode, engine, predict, count, golden, name):
    """Sample and decode a run that `generate` does not offer, stage by stage."""
    noise = Noise(42)
    shape = (count, engine.manifest.latents.channels, engine.manifest.window_latents)
    objective = OBJECTIVES[engine.manifest.sampling.objective]
    start, sigmas = noise.normal(shape), objective.sigmas(8)
    *_, last = SAMPLERS["pingpong"](predict, objective, start, sigmas, lambda: noise.normal(shape))
    _close(last.latents, golden[f"{name}_latents"], 5e-5)
    _close_audio(decode(last.latents), golden, name)


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
    assert runs - RECTIFIED_FLOW_RUNS.keys() == {*RUNS, "pingpong_batch3", "pingpong_negative"}
