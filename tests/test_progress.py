"""The fraction of a clip that is done is the share of its time."""

from __future__ import annotations

import pytest

from sao_onnx.bundle.manifest import StageName
from sao_onnx.clip import Timings
from sao_onnx.planning.plan import Plan
from sao_onnx.request import Request
from sao_onnx.running.progress import Measured, MeasuredPace, Pace, Progress

SIZES: dict[StageName, int] = {"conditioner": 10, "encoder": 20, "denoiser": 40, "decoder": 30}
LOAD, CONDITIONING, ENCODING, STEP, DECODING_START, DECODING = 0.01, 0.2, 0.003, 0.005, 0.004, 0.02


def _played(plan: Plan, progress: Progress, encodes: bool) -> list[tuple[float, float]]:
    """Every fraction that is told, with the true share of the time, for a machine of the pace above."""
    passes = 1 if plan.guidance is None else 2
    seconds, told = 0.0, []
    total = 0.0
    for index, window in enumerate(plan.windows):
        pieces = [32.0] * int(window.decoded / plan.ratio // 32)
        pieces += [window.decoded / plan.ratio - sum(pieces)] if window.decoded / plan.ratio > sum(pieces) else []
        for stage in ("conditioner", "encoder", "denoiser", "decoder"):
            if stage == "encoder" and not encodes:
                continue
            seconds += LOAD * progress.loaded(index, stage)
            if stage == "conditioner":
                seconds += CONDITIONING
                told.append((progress.conditioned(), seconds))
            elif stage == "encoder":
                seconds += ENCODING * window.latent_count
                progress.encoded(window.latent_count)
            elif stage == "denoiser":
                for _ in range(window.steps):
                    seconds += STEP * window.latent_count * passes
                    told.append((progress.sampled(window.latent_count), seconds))
            else:
                for number, length in enumerate(pieces):
                    first = window.latent_count if number == 0 else 0
                    seconds += DECODING * length + DECODING_START * first
                    told.append((progress.decoded(length, first), seconds))
        total = seconds
    return [(fraction, share / total) for fraction, share in told]


def _timings(plan: Plan, encodes: bool) -> tuple[Timings, Measured]:
    """What a clip of that pace takes."""
    passes = 1 if plan.guidance is None else 2
    latents = sum(window.latent_count for window in plan.windows)
    decoded = sum(window.decoded for window in plan.windows) / plan.ratio
    loaded = sum(SIZES.values()) - (0 if encodes else SIZES["encoder"])
    first = sum(min(32.0, window.decoded / plan.ratio) for window in plan.windows)
    timings = Timings(
        load=LOAD * loaded * len(plan.windows),
        conditioning=CONDITIONING * len(plan.windows),
        encoding=ENCODING * latents if encodes else 0.0,
        sampling=STEP * passes * sum(window.latent_count * window.steps for window in plan.windows),
        decoding=DECODING * decoded + DECODING_START * latents,
    )
    return timings, Measured(loaded * len(plan.windows), DECODING * first + DECODING_START * latents, first)


@pytest.mark.parametrize("options", [{}, {"cfg_scale": 3.0}, {"seconds": 1.0, "steps": 2}], ids=["plain", "guided", "short"])
def test_a_fraction_is_the_share_of_the_time(engine, options):
    plan = engine.plan(Request("rain", seed=1, **options))
    pace = MeasuredPace()
    pace.learn(plan, *_timings(plan, encodes=False))
    for fraction, share in _played(plan, Progress(plan, pace.now(), [SIZES]), encodes=False):
        assert fraction == pytest.approx(share, abs=1e-6)


def test_what_a_clip_had_no_part_of_keeps_its_ratio(engine):
    """A machine ten times as slow as the built-in pace, which has not encoded yet."""
    plan = engine.plan(Request("rain", seed=1))
    built_in, pace = Pace(), MeasuredPace()
    slow = Timings(0, 1, 0, 10 * built_in.step * sum(w.latent_count * w.steps for w in plan.windows), 5)
    pace.learn(plan, slow, Measured(0, 1.0, 32.0))
    assert pace.now().encoding == pytest.approx(10 * built_in.encoding)
    assert pace.now().load == pytest.approx(10 * built_in.load)
