"""Prompts that a model brings along, as makers of fine-tunes publish them: `prompts.json`, in a bundle a file of its own role.

Two forms are in use, both of the gary4juce plug-in: lists of prompts by group under `dice`, and later under `prompt_bank`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from sao_onnx.bundle.bundle import Bundle
from sao_onnx.bundle.names import BUILT_IN
from sao_onnx.errors import BundleError
from sao_onnx.reading import parse_json, read_small

PROMPTS = "prompts.json"
"""Name of the file, in a checkpoint and in its bundle."""

LARGEST = 4_000_000
"""Bytes of the file."""

MOST = 20_000
"""Prompts in all groups."""

LONGEST = 1_000
"""Characters of a prompt. Models read some hundred."""

FORMS = ("prompt_bank", "dice")

Prompts = Mapping[str, tuple[str, ...]]
"""Prompts by the name of their group."""

OWN: dict[str, tuple[str, ...]] = {
    BUILT_IN: ("bright saw wave at A4", "techno loop, 140 bpm", "short kick drum on the left", "rain", "ocean waves"),
    "": (
        "128 BPM tech house drum loop",
        "90 BPM lo-fi hip hop drums, dusty",
        "174 BPM drum and bass break",
        "deep sub bass, slow",
        "warm analog pad, slow",
        "plucked synth arpeggio, 120 BPM",
        "soft felt piano chords",
        "rain on a tin roof",
        "glass breaking, close",
        "wind through trees, birds far away",
    ),
}
"""For bundles without prompts: by the name of the model, "" for all others."""


def parse_prompts(text: str) -> Prompts:
    """Read the text of a `prompts.json`.

    Raises:
        ValueError: It is no JSON, has none of the known forms, or holds something else than a usable number of short texts.
    """
    data = parse_json(text)
    found = next((data[form] for form in FORMS if isinstance(data.get(form), dict)), None) if isinstance(data, dict) else None
    if found is None:
        raise ValueError(f"found no lists of prompts under {' or '.join(map(repr, FORMS))}")
    groups = {name: _group(name, value) for name, value in found.items() if value}
    count = sum(map(len, groups.values()))
    if not 0 < count <= MOST:
        raise ValueError(f"found {count} prompts, expected 1 to {MOST:,}")
    return groups


def _group(name: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(prompt, str) for prompt in value):
        raise ValueError(f"the group {name[:40]!r} is no list of texts")
    prompts = [" ".join(prompt.split()) for prompt in value]
    if not all(0 < len(prompt) <= LONGEST and prompt.isprintable() for prompt in prompts):
        raise ValueError(f"a prompt of the group {name[:40]!r} is empty, longer than {LONGEST:,} characters, or not printable")
    return tuple(prompts)


def bundle_prompts(bundle: Bundle) -> Prompts:
    """The prompts of a bundle by group; empty where it brings none.

    Raises:
        BundleError: Their file is damaged or cannot be read.
    """
    path = next((file.path for file in bundle.manifest.files if file.role == "prompts"), None)
    if path is None:
        return {}
    with bundle.opening([path]):
        data = read_small(bundle.path(path), LARGEST)
    try:
        return parse_prompts(data.decode("utf-8-sig"))
    except ValueError as error:
        raise BundleError(f"{bundle.path(path)} cannot be read: {error}; convert the model again") from error


def drawn_prompt(bundle: Bundle, seed: int) -> str:
    """A prompt of a bundle, or of our own where it brings none; the same for the same seed.

    Raises:
        BundleError: As for `bundle_prompts`.
    """
    own = OWN.get(bundle.manifest.model.name, OWN[""])
    prompts = [prompt for group in bundle_prompts(bundle).values() for prompt in group] or own
    # Neighbouring seeds shall not give neighbouring prompts, and no release may draw others.
    return prompts[int.from_bytes(hashlib.sha256(str(seed).encode()).digest()) % len(prompts)]
