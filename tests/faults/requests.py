"""Options of requests of any type and value: refused, or a clip that keeps its promises."""

from __future__ import annotations

import datetime
import decimal
import fractions
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from sao_onnx.audio.formats import AUDIO_FORMATS
from sao_onnx.clip import Clip
from sao_onnx.provenance import read_provenance
from sao_onnx.request import Request, kinds
from tests.faults.mutate import NUMBERS, TEXTS, hostile
from tests.faults.outcome import Fault, Outcome, attempt, wrong
from tests.faults.subject import engine, quick_engines, recording, sound

start = quick_engines

Maker = Callable[[], Any]

OBJECTS: tuple[Maker, ...] = (
    lambda: np.float32(0.2),
    lambda: np.float64("nan"),
    lambda: np.int64(3),
    lambda: np.uint8(2),
    lambda: np.bool_(True),
    lambda: np.str_("euler"),
    lambda: np.datetime64("2020-01-01"),
    lambda: np.array(2),
    lambda: np.array([1, 2]),
    lambda: np.zeros((8, 20), np.float32),
    lambda: np.zeros((2, 0)),
    lambda: np.array([[None]], object),
    lambda: 1j,
    lambda: b"kick",
    lambda: decimal.Decimal("0.2"),
    lambda: decimal.Decimal("nan"),
    lambda: fractions.Fraction(1, 5),
    lambda: fractions.Fraction(10**400, 1),
    lambda: datetime.timedelta(seconds=1),
    lambda: Path("nothing.wav"),
    lambda: range(3),
    lambda: (x for x in ((0, 0.1),)),
    lambda: {1: 2},
    lambda: {"seconds_total": np.float32(1)},
    lambda: {None: float("nan")},
    lambda: {"seconds_total": 10**400},
    lambda: [(0, 0.1), (0.05, 0.15)],
    lambda: [(0.1, 0.0)],
    lambda: [(float("nan"), 1)],
    lambda: [(0, 0.1, 0.2)],
    lambda: [[0, 10**400]],
    lambda: ((0, 0.1) for _ in range(2)),
    lambda: {(0, 0.1)},
    lambda: "0:0.1",
    object,
    lambda: type,
    lambda: Ellipsis,
    lambda: (np.zeros((2, 9000), np.float32), 44100),
    lambda: (recording(), 44100.0),
)

PROMPTS: tuple[Any, ...] = (
    *TEXTS,
    "kick drum",
    "kick " * 10**5,
    "雨" * 5000,
    "\U0010ffff",
    "e\u0301" * 500,
    "a" * 10**6,
    None,
    3,
    b"kick",
    ["kick"],
)


def _sane(rng: random.Random) -> dict[str, Any]:
    """Options that a clip can be made with, and that are quick."""
    options: dict[str, Any] = {"seconds": rng.choice((0.1, 0.25, 1e-3, 1 / 44100)), "window_seconds": 0.3, "steps": 2}
    more: tuple[dict[str, Any], ...] = (
        {},
        {"sampler": rng.choice(("euler", "pingpong", "dpmpp")), "cfg_scale": rng.choice((0.0, 0.5, 2.0, 100.0))},
        {"init_audio": (recording(), 44100), "init_noise_level": rng.choice((0.12, 0.5, 1.0))},
        {"init_audio": (recording(), 44100), "keep": [(0, 0.05)], "init_start": 0.1},
        {"latents": np.full((8, rng.choice((1, 30, 500))), 0.5, np.float32)},
        {"normalize": rng.choice(("lufs", "none", "peak")), "loudness": rng.choice((-70.0, 0.0)), "trim_silence": True},
        {"fade_in": rng.choice((0.1, 60.0)), "fade_out": 0.05, "mono": True},
        {"full_window": True, "numbers": {"seconds_total": rng.choice((0.0, -1e30, 1e30, 500.0))}},
    )
    return options | rng.choice(more)


def _value(rng: random.Random, name: str) -> tuple[Any, str]:
    way = rng.random()
    if way < 0.2:
        made = rng.choice(OBJECTS)()
        return made, f"<{type(made).__name__}> {str(made)[:30]}"
    value = hostile(rng) if way < 0.35 else _beyond(rng, name) if way < 0.55 else _inside(rng, name)
    return value, f"<{type(value).__name__}> " + ("a large number" if _large(value) else ascii(value)[:60])


def _large(value: Any) -> bool:
    return isinstance(value, int) and abs(value) > 10**100


def _beyond(rng: random.Random, name: str) -> Any:
    """A value at or beyond an end of its range, or of a number's."""
    option = kinds()[name].option
    ends = [end for end in (option.minimum, option.maximum) if end is not None]
    around = [
        number
        for end in ends
        for number in (end, end - 1, end + 1, int(end), np.nextafter(end, -np.inf), np.nextafter(end, np.inf))
    ]
    return rng.choice([*around, *rng.sample(NUMBERS, 4)])


def _inside(rng: random.Random, name: str) -> Any:
    """A value that the option may have, often at the end of its range or of an unusual type."""
    kind = kinds()[name]
    least, most = kind.option.minimum or 0.0, kind.option.maximum or 5.0
    match kind.name:
        case "number":
            value = rng.choice((least, most, least + 1e-12, most - 1e-12, rng.uniform(least, most), 0.2))
            return rng.choice((float, np.float64, np.float32, fractions.Fraction))(value)
        case "whole number":
            return rng.choice((int, np.int64, np.uint64))(rng.choice((int(least), int(most), 1, 2, 7)))
        case "choice":
            return rng.choice((str, np.str_))(rng.choice(kind.choices))
        case "flag":
            return rng.random() < 0.5
        case "text":
            return rng.choice(TEXTS)
        case "regions":
            edges = sorted(rng.choice((0.0, 0.05, 0.1, 0.2, 0.25, rng.random() / 3)) for _ in range(4))
            return rng.choice((list, tuple, np.array))([(edges[0], edges[1]), (edges[2], edges[3])])
        case "numbers":
            return {"seconds_total": rng.choice((*NUMBERS[:8], 1e30, -1e38, 3.0))}
        case "latents":
            return np.full(
                (8, rng.choice((1, 26, 2000))), rng.choice((0.0, 1.0, 1e30)), rng.choice((np.float16, np.float32, ">f8"))
            )
    return recording()[:, :: rng.choice((-1, 1, 3))] * rng.choice((0.0, 1.0, 1e-30, 1e30)), rng.choice(
        (8000, 44100, np.int32(96000))
    )


def prepare(rng: random.Random, folder: Path) -> Fault:
    """A request with one to three odd values."""
    options = _sane(rng)
    names = [*kinds(), "x", "trim", "__class__", "prompt_"]
    odd, said = {}, []
    for name in rng.sample(list(kinds()), rng.choice((1, 1, 1, 2, 3))):
        odd[name], shown = _value(rng, name)
        said.append(f"{name}={shown}")
    if rng.random() < 0.03:
        odd[rng.choice(names)] = hostile(rng)
    prompt = rng.choice(PROMPTS) if rng.random() < 0.2 else "kick drum"
    suffix = rng.choice([*AUDIO_FORMATS, ".wav", ".wav"])
    about = {name: value for name, value in options.items() if name not in ("init_audio", "latents")}
    audio = " and audio" if len(about) < len(options) else ""
    return Fault(
        f"prompt {ascii(prompt)[:40]}, {', '.join(said)} over {about}{audio}, {suffix}",
        lambda: _judged(prompt, options | odd, folder / f"a{suffix}"),
    )


def _judged(prompt: Any, options: dict[str, Any], path: Path) -> Outcome:
    made = attempt(lambda: engine().generate(prompt, **options))
    if isinstance(made, Outcome):
        return made
    if problem := sound(made.samples):
        return wrong(problem)
    if path.suffix == ".wav" and (problem := _length(made, options)):
        return wrong(problem)
    saved = attempt(lambda: made.save(path))
    if isinstance(saved, Outcome):
        return saved if not path.exists() else wrong("a file in spite of an error", saved.trace)
    kept = attempt(lambda: read_provenance(path))
    if isinstance(kept, Outcome):
        return kept if kept.verdict == "untyped" else wrong(f"a clip whose record is not read: {kept.found[-60:]}")
    if path.suffix == ".wav" and kept.prompt != made.provenance.prompt:
        return wrong("a record of another prompt")
    return (
        _again(prompt, options, made, kept) if "init_audio" not in options and "latents" not in options else Outcome("allowed")
    )


def _length(clip: Clip, options: dict[str, Any]) -> str:
    """What is wrong with the length of a clip that was asked for in seconds."""
    seconds = options.get("seconds")
    plain = not any(options.get(name) for name in ("trim_silence", "full_window", "extend", "bpm"))
    if not plain or not isinstance(seconds, (float, int)):
        return ""
    window = options.get("window_seconds")
    most = 176128 if window is None else -(-round(float(window) * 44100 - 1e-3) // 512) * 512
    return "" if clip.samples.shape[1] == min(round(float(seconds) * 44100), max(most, 512)) else "another length"


def _again(prompt: Any, options: dict[str, Any], made: Clip, kept: Any) -> Outcome:
    """The record of a clip makes the same clip."""
    request = attempt(lambda: Request.from_options(kept.prompt, {"seed": kept.seed, **kept.options}))
    if isinstance(request, Outcome):
        return request if request.verdict == "untyped" else wrong(f"a record that is refused: {request.found[:60]}")
    again = attempt(lambda: engine().generate(request))
    if isinstance(again, Outcome):
        return again if again.verdict == "untyped" else wrong(f"a record that is refused: {again.found[:60]}")
    return Outcome("same") if np.array_equal(again.samples, made.samples) else wrong("a record that makes another clip")
