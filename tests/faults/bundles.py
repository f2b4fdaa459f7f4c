"""Bundles whose files or manifest are not what they were: refused, or the same clip. Other samples need another fingerprint."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from sao_onnx.bundle.bundle import open_bundle
from sao_onnx.bundle.manifest import Precision
from sao_onnx.clip import Clip
from sao_onnx.engine import load
from sao_onnx.errors import BundleError
from tests.faults.mutate import damaged, dumps, mutated
from tests.faults.outcome import Fault, Outcome, attempt, wrong
from tests.faults.subject import linked_bundle, pristine, put, quick_engines, recording, sound

start = quick_engines

Options = tuple[tuple[str, Any], ...]

OPTIONS: tuple[Options, ...] = ((("seconds", 0.2), ("window_seconds", 0.25)), (("seconds", 0.2),), (("steps", 2),))


def prepare(rng: random.Random, folder: Path) -> Fault:
    """A fault in a bundle."""
    bundle = linked_bundle(folder / "bundle")
    way = rng.choices(list(WAYS), [way[1] for way in WAYS.values()])[0]
    said = WAYS[way][0](rng, bundle)
    precision: Precision | None = rng.choice((None, "int8", "fp32"))
    options, initial = rng.choices(OPTIONS, [6, 2, 1])[0], rng.random() < 0.3
    return Fault(
        f"{way}: {said}; precision {precision}, {dict(options)}{', initial audio' if initial else ''}",
        lambda: _judged(bundle, precision, options, initial, another=way in ("mutate the manifest", "seal a damaged file")),
    )


def _clip(bundle: Path, precision: Precision | None, options: Options, initial: bool) -> tuple[Clip, str]:
    engine = load(bundle, precision=precision, threads=1, keep_loaded=False)
    start: dict[str, Any] = {"init_audio": (recording(), 44100)} if initial else {}
    return engine.generate("kick drum", seed=7, **dict(options), **start), engine.bundle.fingerprint


@functools.cache
def _reference(precision: Precision | None, options: Options, initial: bool) -> tuple[Clip, str]:
    return _clip(pristine(), precision, options, initial)


def _judged(bundle: Path, precision: Precision | None, options: Options, initial: bool, another: bool) -> Outcome:
    made = attempt(lambda: _clip(bundle, precision, options, initial))
    if isinstance(made, Outcome):
        return made
    (clip, fingerprint), (expected, usual) = made, _reference(precision, options, initial)
    if problem := sound(clip.samples):
        return wrong(problem)
    if np.array_equal(clip.samples, expected.samples):
        return _verified(bundle)
    if another and fingerprint != usual:
        return Outcome("allowed", "another bundle by its fingerprint")
    return wrong("other samples, " + ("the same fingerprint" if fingerprint == usual else "another fingerprint"))


def _verified(bundle: Path) -> Outcome:
    """The same clip; but what `verify` says of the bundle must be true as well."""
    intact = all((bundle / file.path).read_bytes() == (pristine() / file.path).read_bytes() for file in _listed(pristine()))
    said = attempt(lambda: list(open_bundle(bundle).verify()))
    if isinstance(said, Outcome) and said.verdict != "refused":
        return said
    if not intact and not isinstance(said, Outcome) and _listed(bundle) == _listed(pristine()):
        return wrong("verify finds a damaged file right")
    return Outcome("same")


@functools.cache
def _files() -> list[str]:
    return [file.path for file in _listed(pristine())]


def _listed(bundle: Path) -> Any:
    try:
        return open_bundle(bundle).manifest.files
    except BundleError:
        return None


def _damage(rng: random.Random, bundle: Path) -> str:
    name = rng.choices(_files(), [3 if name.endswith((".data", "tokenizer.json")) else 2 for name in _files()])[0]
    data, said = damaged(rng, (bundle / name).read_bytes())
    put(bundle / name, data)
    return f"{name}: {said}"


def _seal(rng: random.Random, bundle: Path) -> str:
    """A damaged file whose size and digest the manifest has: as if somebody had converted it so."""
    said = _damage(rng, bundle)
    name = said.partition(":")[0]
    data, path = (bundle / name).read_bytes(), bundle / "manifest.json"
    manifest = json.loads(path.read_text())
    for file in manifest["files"]:
        if file["path"] == name:
            file.update(size=len(data), sha256=hashlib.sha256(data).hexdigest())
    put(path, json.dumps(manifest).encode())
    return said


def _manifest_bytes(rng: random.Random, bundle: Path) -> str:
    path = bundle / "manifest.json"
    data, said = damaged(rng, path.read_bytes())
    put(path, data)
    return said


def _manifest_fields(rng: random.Random, bundle: Path) -> str:
    path = bundle / "manifest.json"
    manifest = json.loads(path.read_text())
    parts = [name for name in manifest if name not in ("files", "graphs")]
    # The lists of files and graphs are nearly all of the manifest; the rest is as interesting.
    found, said = mutated(rng, manifest if rng.random() < 0.4 else {name: manifest[name] for name in parts}, list(manifest))
    if isinstance(found, dict) and "files" not in found and rng.random() < 0.95:
        found |= {name: manifest[name] for name in ("files", "graphs")}
    put(path, dumps(found).encode("utf-8", "surrogatepass"))
    return said


def _swap(rng: random.Random, bundle: Path) -> str:
    first, second = (bundle / name for name in rng.sample(_files(), 2))
    if rng.random() < 0.5:
        put(first, second.read_bytes())
        return f"{first.name} is a copy of {second.relative_to(bundle)}"
    first.rename(bundle / "x")
    second.rename(first)
    (bundle / "x").rename(second)
    return f"{first.relative_to(bundle)} and {second.relative_to(bundle)} swapped"


def _same_size(rng: random.Random, bundle: Path) -> str:
    """Other content of the same size: what sizes cannot tell."""
    name = rng.choice([name for name in _files() if name.endswith(".data")])
    data = bytearray((bundle / name).read_bytes())
    at, size = rng.randrange(len(data)), rng.choice((1, 1, 4, 64, 4096))
    for index in range(at, min(at + size, len(data))):
        data[index] ^= 1 << rng.randrange(8)
    put(bundle / name, bytes(data))
    return f"{name}: a bit flipped in each of {size} bytes from {at}"


def _place(rng: random.Random, bundle: Path) -> str:
    """Something else in the place of a file."""
    path = bundle / rng.choice([*_files(), "manifest.json", "manifest.json"])
    path.unlink()
    kind = rng.choice(("nothing", "folder", "FIFO", "link to itself", "link out", "/dev/zero", "/dev/null", "other case"))
    if kind == "folder":
        path.mkdir()
    elif kind == "FIFO":
        os.mkfifo(path)
    elif kind == "link to itself":
        path.symlink_to(path.name)
    elif kind == "link out":
        path.symlink_to(pristine() / path.relative_to(bundle))
    elif kind.startswith("/dev"):
        path.symlink_to(kind)
    elif kind == "other case":
        put(path.with_name(path.name.upper()), (pristine() / path.relative_to(bundle)).read_bytes())
    return f"{kind} in the place of {path.relative_to(bundle)}"


WAYS: dict[str, tuple[Callable[[random.Random, Path], str], float]] = {
    "damage a file": (_damage, 5),
    "flip bits of weights": (_same_size, 4),
    "seal a damaged file": (_seal, 3),
    "damage the manifest": (_manifest_bytes, 3),
    "mutate the manifest": (_manifest_fields, 8),
    "swap files": (_swap, 2),
    "replace a file": (_place, 2),
}
"""What can happen to a bundle, and how often."""
