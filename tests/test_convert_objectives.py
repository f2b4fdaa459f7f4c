"""Both objectives of the family: the torch pipeline against the reference's formulas and numbers, and what is converted."""

from __future__ import annotations

import itertools
import json
import math
import shutil
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch

from sao_onnx.bundle.manifest import SamplerName, Sampling
from sao_onnx_convert import convert
from sao_onnx_convert.family.stable_audio_open.pipeline import TorchPipeline
from sao_onnx_convert.family.stable_audio_open.sampling import SAMPLERS, schedule
from tests.conftest import GOLDEN

MAKERS = {
    "rf_denoiser": Sampling("rf_denoiser", "pingpong", 8, 1.0),
    "rectified_flow": Sampling("rectified_flow", "dpmpp", 30, 4.0),
}
"""The released model as its card has it; fine-tunes as gary4juce starts them."""


def _of(checkpoint: Path, folder: Path, objective: str) -> Path:
    """A copy of a checkpoint whose configuration names another objective."""
    shutil.copytree(checkpoint, folder)
    path = folder / "model_config.json"
    config = json.loads(path.read_text())
    config["model"]["diffusion"]["diffusion_objective"] = objective
    if objective == "rectified_flow":
        config["model"]["diffusion"]["distribution_shift_options"] = {"min_length": 256, "max_length": 4096}
    path.write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="module")
def base_model(checkpoint, tmp_path_factory) -> Path:
    """The miniature as a base model: the same networks, trained for the other objective."""
    return _of(checkpoint, tmp_path_factory.mktemp("base") / "checkpoint", "rectified_flow")


def test_a_base_model_is_converted(base_model, tmp_path):
    bundle = convert(base_model, base_model / "t5", tmp_path / "bundle", precisions=("int8", "fp32"))
    assert bundle.manifest.sampling == MAKERS["rectified_flow"]
    # Calibrated on clips that it samples itself, with its own guidance.
    assert all(graph.snr > (graph.min_snr or 30) for graph in bundle.manifest.graphs)


def test_the_other_objective_keeps_its_defaults(miniature):
    assert json.loads((miniature / "manifest.json").read_text())["sampling"]["objective"] == "rf_denoiser"


def _reference_sigmas(steps: int) -> list[float]:
    """`sample_rf`, lines 441 to 448, for a sigma_max of 1: the same for both objectives."""
    sigmas = [1 / (1 + math.exp(-6 + 8 * i / steps)) for i in range(steps + 1)]
    return [1.0, *sigmas[1:-1], 0.0]


@pytest.mark.parametrize("steps", [1, 2, 8, 50])
def test_sigmas(steps):
    np.testing.assert_allclose(schedule(steps).numpy(), _reference_sigmas(steps), rtol=0, atol=1e-6)


def _pingpong(velocity, x, sigmas, noise):
    """`sample_flow_pingpong`, lines 240 to 247."""
    for now, after in itertools.pairwise(sigmas):
        x = (1 - after) * (x - now * velocity(x, now)) + after * noise()
    return x


def _euler(velocity, x, sigmas, noise):
    """`sample_discrete_euler`, lines 118 to 127."""
    for now, after in itertools.pairwise(sigmas):
        x = x + (after - now) * velocity(x, now)
    return x


def _dpmpp(velocity, x, sigmas, noise):
    """`sample_flow_dpmpp`, lines 199 to 218, with its limits at 1 and 0 worked out: (−h).expm1() is −1, and r is infinite."""
    estimates = []
    for i, (now, after) in enumerate(itertools.pairwise(sigmas)):
        estimates.append(x - now * velocity(x, now))
        if i == 0 or after == 0:
            guess, shrunk = estimates[-1], 0.0 if i == 0 else math.inf
        else:
            h = math.log((1 - after) / after) - math.log((1 - now) / now)
            last_h = math.inf if i == 1 else math.log((1 - now) / now) - math.log((1 - sigmas[i - 1]) / sigmas[i - 1])
            r = last_h / h
            guess, shrunk = (1 + 1 / (2 * r)) * estimates[-1] - 1 / (2 * r) * estimates[-2], h
        # The signal's part of the step: 1 − e^(−h), which is 1 where h is infinite: from a sigma of 1, and to one of 0.
        part = 1.0 if i == 0 or after == 0 else 1 - math.exp(-shrunk)
        x = after / now * x + (1 - after) * part * guess
    return x


REFERENCE = {"pingpong": _pingpong, "euler": _euler, "dpmpp": _dpmpp}


def test_every_sampler_of_the_engine_has_its_twin():
    assert tuple(SAMPLERS) == get_args(SamplerName)


@pytest.mark.parametrize("steps", [1, 2, 3, 9])
@pytest.mark.parametrize("name", SAMPLERS)
def test_samplers_compute_the_references_formulas(name, steps):
    """In double precision, on a velocity that is not linear in the latents."""
    start = torch.randn(1, 4, 40, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def draws():
        random = torch.Generator().manual_seed(2)
        return lambda: torch.randn(1, 4, 40, generator=random, dtype=torch.float64)

    def velocity(x, sigma):
        return torch.tanh(x) * (1 + sigma) + 0.3 * torch.sin(5 * x) - 0.2

    sigmas = _reference_sigmas(steps)
    found = list(SAMPLERS[name](velocity, start, torch.tensor(sigmas, dtype=torch.float64), draws()))
    assert len(found) == steps
    torch.testing.assert_close(found[-1], REFERENCE[name](velocity, start, sigmas, draws()), rtol=0, atol=1e-9)


def test_guidance_and_defaults(base_model):
    """By default a base model is sampled by DPM++ in 30 steps, four times away from tokens of zeros."""
    pipeline = TorchPipeline.load(base_model, base_model / "t5")
    cross, condition = pipeline.condition("dark drums", {"seconds_total": 2.0})
    dit = pipeline.model.dit
    steps_done: list[Any] = []

    def velocity(x, sigma):
        times = torch.tensor([sigma])
        with torch.no_grad():
            without, given = (dit(x, times, tokens, condition) for tokens in (torch.zeros_like(cross), cross))
        return without + 4 * (given - without)

    latents = pipeline.sample(cross, condition, 5, after_step=steps_done.append)
    start = torch.randn(latents.shape, generator=torch.Generator().manual_seed(5))
    expected = _dpmpp(velocity, start, _reference_sigmas(30), None)
    assert steps_done == list(range(30))
    torch.testing.assert_close(latents, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("objective", MAKERS)
@pytest.mark.parametrize(
    ("run", "options"),
    [
        ("pingpong", {"sampler": "pingpong", "cfg_scale": 1.0}),
        ("pingpong_cfg", {"sampler": "pingpong", "cfg_scale": 3.5}),
        ("euler", {"sampler": "euler", "cfg_scale": 1.0}),
        ("dpmpp", {"sampler": "dpmpp", "cfg_scale": 1.0}),
    ],
)
def test_the_reference(golden, golden_folder, checkpoint, tmp_path, objective, run, options):
    """The golden runs, which the reference samples in the same way for both objectives."""
    source, t5 = (checkpoint, "t5") if golden_folder == GOLDEN else (golden_folder, "t5-base")
    model = _of(source, tmp_path / "checkpoint", objective)
    pipeline = TorchPipeline.load(model, model / t5)
    prompt, seconds = str(golden["prompts"][0]), float(golden["seconds_total"][0])
    latents = pipeline.sample(*pipeline.condition(prompt, {"seconds_total": seconds}), 42, steps=8, **options)
    np.testing.assert_allclose(latents.numpy(), golden[f"{run}_latents"], rtol=0, atol=1e-4)
