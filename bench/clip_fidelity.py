"""How close clips and embeddings of prompts in int8 are to those in fp32."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

import sao_onnx
from bench.common import decibels
from sao_onnx.bundle.bundle import Bundle
from sao_onnx.running.loading import load_conditioner
from sao_onnx.runtime.sessions import SessionFactory

Array = np.ndarray[Any, np.dtype[Any]]

CLIPS = (("128 BPM tech house drum loop", 42), ("rain on a tin roof, distant thunder", 7))
"""Prompts and seeds of the clips that are compared."""

BANDS, WINDOW, HOP = 80, 2048, 512
"""Of the mel spectrogram: number of bands, frames in a window, and frames from one window to the next."""


def clip_fidelity(bundle: Bundle, prompt: str, seed: int) -> dict[str, Any]:
    """Compare a clip in int8 with the clip of the same prompt and seed in fp32.

    Returns:
        Signal-to-noise ratios in decibels of "latents", "samples" and "samples_without_mean"; and "log_mel", the mean absolute
        difference of the mel spectrograms in decibels.
    """
    exact, rounded = (
        sao_onnx.load(bundle.folder, precision=precision, keep_loaded=False, tuned=False).generate(
            prompt, seed=seed, normalize="none"
        )
        for precision in ("fp32", "int8")
    )
    rate = exact.sample_rate
    centred = [clip.samples - clip.samples.mean(axis=1, keepdims=True) for clip in (exact, rounded)]
    return {
        "prompt": prompt,
        "seed": seed,
        "latents": decibels(exact.latents, rounded.latents),
        "samples": decibels(exact.samples, rounded.samples),
        "samples_without_mean": decibels(*centred),
        "log_mel": float(np.abs(log_mel(exact.samples, rate) - log_mel(rounded.samples, rate)).mean()),
    }


def log_mel(samples: Array, rate: int) -> Array:
    """Mel spectrogram in decibels.

    Hann windows, and triangular bands on O'Shaughnessy's mel scale, `2595 · log10(1 + f/700)`.

    Args:
        samples: float32 [channels, frames].
        rate: In hertz.

    Returns:
        float64 [channels, windows, bands], at least 80 dB below the largest value.
    """
    windows = np.lib.stride_tricks.sliding_window_view(samples.astype(np.float64), WINDOW, axis=1)[:, ::HOP]
    power = np.abs(np.fft.rfft(windows * np.hanning(WINDOW), axis=2)) ** 2
    edges = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + rate / 2 / 700), BANDS + 2) / 2595) - 1)
    frequencies = np.fft.rfftfreq(WINDOW, 1 / rate)
    rising = (frequencies - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - frequencies) / (edges[2:] - edges[1:-1])[:, None]
    bands = power @ np.maximum(0, np.minimum(rising, falling)).T
    level = 10 * np.log10(np.maximum(bands, 1e-20))
    floored: Array = np.maximum(level, level.max() - 80)
    return floored


def varied_prompts(count: int) -> list[str]:
    """Different prompts of many kinds: ordinary, empty and long ones, in other scripts, with symbols.

    Args:
        count: How many.
    """
    kinds = ("kick drum", "ambient pad", "slap bass riff", "rain on leaves", "sci-fi riser", "choir", "808 loop", "fanfare")
    words = ("", "warm ", "dark, distorted ", "very soft ", "lo-fi ", "bright and wide ", "90s ", "cinematic, huge ")
    ends = (
        "",
        ", 120 BPM",
        " in C# minor",
        " at night",
        "!!!",
        " (stereo) [take 2]",
        ", slow attack, long release",
        " — ünïcödé",
    )
    odd = [
        "",
        " ",
        "?",
        "鼓のループ",
        "барабаны",
        "🥁🥁🥁",
        "a" * 300,
        "loop " * 100,
        "1234567890",
        "\t\n",
        "<pad></s>",
        "%s {x} \\0",
    ]
    regular = (f"{word}{kind}{end}" for kind, word, end in itertools.product(kinds, words, ends))
    numbered = (f"take {i}, {60 + i % 120} BPM, {kinds[i % len(kinds)]}" for i in itertools.count())
    return list(itertools.islice(itertools.chain(odd, regular, numbered), count))


def prompt_fidelity(bundle: Bundle, count: int) -> dict[str, Any]:
    """Compare the embeddings of prompts in int8 with those in fp32.

    Returns:
        The "least" and the "median" cosine of both embeddings of a prompt, the "count" of prompts, and whether all values are
        "finite".
    """
    factory = SessionFactory()
    exact, rounded = (load_conditioner(bundle, precision, factory) for precision in ("fp32", "int8"))
    numbers = {number.id: [number.minimum] for number in bundle.manifest.conditioning.numbers}
    cosines, finite = [], True
    for prompt in varied_prompts(count):
        a, b = (np.float64(conditioner([prompt], numbers).cross_attention).ravel() for conditioner in (exact, rounded))
        finite = finite and bool(np.isfinite(a).all() and np.isfinite(b).all())
        cosines.append(float(a @ b / np.sqrt((a @ a) * (b @ b))))
    return {"count": count, "least": min(cosines), "median": float(np.median(cosines)), "finite": finite}
