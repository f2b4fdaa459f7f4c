"""Audio files whose tags or headers were changed: refused, or a valid request that touches no file but its own."""

from __future__ import annotations

import functools
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from sao_onnx.audio.files import encode_audio
from sao_onnx.provenance import Provenance, read_provenance
from sao_onnx.request import kinds
from tests.faults.command import Ended, in_process
from tests.faults.folders import canaries, changes, tree
from tests.faults.mutate import damaged, dumps, mutated
from tests.faults.outcome import Fault, Outcome, attempt, wrong
from tests.faults.subject import engine, pristine, quick_engines, recording

start = quick_engines

REQUESTS: tuple[dict[str, Any], ...] = (
    {"seconds": 0.2, "window_seconds": 0.25, "steps": 2},
    {"seconds": 0.2, "window_seconds": 0.25, "steps": 2, "sampler": "euler", "cfg_scale": 2.0, "negative_prompt": "hiss"},
    {"bpm": 240.0, "bars": 1, "beats": 1, "window_seconds": 0.4, "steps": 2},
    {"seconds": 0.2, "window_seconds": 0.25, "steps": 2, "normalize": "lufs", "fade_in": 0.01, "mono": True},
    {"seconds": 0.3, "steps": 2, "init_audio": "init.wav", "keep": [(0.0, 0.1)], "init_start": 0.1},
    {"seconds": 0.3, "steps": 2, "init_audio": "init.wav", "init_noise_level": 0.5, "numbers": {"seconds_total": 3.0}},
    {"extend": 0.2, "steps": 2, "init_audio": "init.wav"},
)

SUFFIXES = (".wav", ".wav", ".wav", ".flac", ".ogg", ".opus", ".mp3")

FILES = (
    "session.collect_node_memory_stats_to_file",
    "session.optimized_model_filepath",
    "optimization.minimal_build_optimizations",
    "session.load_model_format",
    "ep.context_file_path",
    "ep.context_enable",
)
"""Settings of ONNX Runtime that name files, or switch such on."""

OUTSIDE = (
    "../canary/secret.wav",
    "../canary/fifo",
    "../canary/victim.txt",
    "../../secret.wav",
    "/etc/passwd",
    "{}/canary/secret.wav",
)


def prepare(rng: random.Random, folder: Path) -> Fault:
    """A file with changed tags, beside a recording that it may name and files that it may not touch."""
    canaries(folder / "canary")
    work = folder / "work"
    work.mkdir()
    soundfile.write(work / "init.wav", recording().T, 44100)
    which, suffix = rng.randrange(len(REQUESTS)), rng.choice(SUFFIXES)
    way = rng.choices(list(WAYS), [8, 3, 4, 4])[0]
    file = work / f"from{suffix}"
    said = WAYS[way](rng, file, which)
    output = f"out{rng.choice(('.wav', '.wav', '.flac', '.mp3'))}"
    return Fault(f"{way}: {said}; request {which}, {file.name} to {output}", lambda: _judged(folder, file, which, output))


@functools.cache
def _made(which: int) -> tuple[np.ndarray[Any, Any], Provenance]:
    """Samples and record of a clip whose tags are changed."""
    import tempfile

    options = dict(REQUESTS[which])
    if name := options.pop("init_audio", None):
        path = Path(tempfile.mkdtemp()) / name
        soundfile.write(path, recording().T, 44100)
        options["init_audio"] = path
    clip = engine().generate("kick drum", seed=7, **options)
    return clip.samples, clip.provenance


def _write(file: Path, which: int, comment: str) -> None:
    """A clip with other text in the place of its record."""
    samples, provenance = _made(which)
    tags = provenance.tags() | {"comment": comment}
    file.write_bytes(encode_audio(samples, 44100, file.suffix, tags=tags))


def _fields(rng: random.Random, file: Path, which: int) -> str:
    record = json.loads(_made(which)[1].to_json())
    known = [*kinds(), "format", "prompt", "seed", "init_audio", *record["sao-onnx"]]
    found, said = mutated(rng, record["sao-onnx"] if rng.random() < 0.9 else record, known)
    _write(file, which, _storable(dumps(found if "sao-onnx" in found else {"sao-onnx": found})))
    return said


def _storable(text: str) -> str:
    # libsndfile takes texts that end at a zero and can be encoded.
    return text.encode("utf-8", "replace").decode().replace("\0", "")


def _text(rng: random.Random, file: Path, which: int) -> str:
    data, said = damaged(rng, _made(which)[1].to_json().encode())
    text = data.decode("latin-1").replace("\0", "")
    _write(file, which, text)
    return said


def _bytes(rng: random.Random, file: Path, which: int) -> str:
    """Bytes of the file itself: its header, and where the tags are."""
    _write(file, which, _made(which)[1].to_json())
    whole = file.read_bytes()
    at = whole.find(b"sao-onnx")
    until = len(whole) if rng.random() < 0.3 else 64 if rng.random() < 0.5 else min(len(whole), max(at, 0) + 1500)
    data, said = damaged(rng, whole, until)
    file.write_bytes(data)
    return said


def _malice(rng: random.Random, file: Path, which: int) -> str:
    """What somebody would write who wants a file of ours read or overwritten, or our time."""
    record = json.loads(_made(which)[1].to_json())
    inner, base = record["sao-onnx"], file.parent.parent
    outside = rng.choice(OUTSIDE).format(base)
    kind = rng.choice(("init_audio", "tuning", "threads", "work", "prompt"))
    if kind == "init_audio":
        inner["init_audio"] = outside
        if rng.random() < 0.5:
            inner["options"]["extend" if rng.random() < 0.2 else "steps"] = 1
    elif kind == "tuning":
        inner["tuning"]["options"] = {rng.choice(FILES): str(base / "canary" / rng.choice(("victim.txt", "new.txt", "fifo")))}
    elif kind == "threads":
        inner["tuning"] |= {
            rng.choice(("threads", "workers")): rng.choice((0, -1, 10**4, 10**6, 10**9, 2**31, 2**64)),
            "tiles": rng.choice(([1], [16, 2], [0, 0], [10**9, 10**9], [])),
        }
    elif kind == "work":
        inner["options"] = {"steps": rng.choice((10**6, 10**5)), "extend": rng.choice((3600, 1e-5))}
        inner["init_audio"] = "init.wav"
    else:
        inner["prompt"] = rng.choice(("", "a" * 10**6, "雨" * 3000, "\x1b]0;x\x07", "{0}", "\n".join("ab"), "../../x"))
    _write(file, which, dumps(record))
    return f"{kind}: {str(inner[{'tuning': 'tuning', 'threads': 'tuning', 'work': 'options'}.get(kind, kind)])[:150]!r}"


WAYS: dict[str, Callable[[random.Random, Path, int], str]] = {
    "mutate the record": _fields,
    "damage its text": _text,
    "damage the file": _bytes,
    "malice": _malice,
}
"""How tags can be changed."""


def _judged(folder: Path, file: Path, which: int, output: str) -> Outcome:
    before = tree(folder)
    record = attempt(lambda: read_provenance(file))
    if isinstance(record, Outcome) and record.verdict != "refused":
        return record
    ended = in_process(["gen", "--from", file.name, "-o", output, "--model", str(pristine()), "--threads", "1"], file.parent)
    touched = changes(before, tree(folder))
    made = touched.pop(f"work/{output}", None)
    if touched:
        return wrong(f"other files: {', '.join(f'{kind} {path}' for path, kind in sorted(touched.items()))[:80]}")
    if isinstance(ended, Outcome):
        return ended if made is None else wrong("a file in spite of an error", ended.trace)
    if ended.code != 0:
        return _refused(ended, made)
    if isinstance(record, Outcome) or made != "new":
        return wrong("no file, but exit code 0" if made is None else "a clip of tags that are refused", ended.err)
    return _clip(file, record, which, file.parent / output)


def _refused(ended: Ended, made: str | None) -> Outcome:
    if made is not None:
        return wrong("a file in spite of an error", ended.err)
    return Outcome("refused", ended.err.strip()) if ended.err.strip() else wrong("exit code without a message")


def _clip(file: Path, record: Provenance, which: int, output: Path) -> Outcome:
    """The clip that was made is one of the record, and nothing outside of its folder was read for it."""
    name = record.init_audio
    if name and (file.parent / name).resolve().parent != file.parent:
        return wrong(f"reads {Path(name).name} in another folder")
    samples, rate = soundfile.read(output, always_2d=True)
    if not len(samples) or rate not in (44100, 48000) or not np.isfinite(samples).all():
        return wrong(f"a clip of {len(samples)} frames at {rate}")
    new = read_provenance(output)
    if new.seed != record.seed or (
        output.suffix != ".mp3" and new.prompt != record.prompt and not new.prompt.startswith(record.prompt)
    ):
        return wrong("a clip of another prompt or seed")
    expected, usual = _made(which)
    if output.suffix != ".wav" or record != usual:
        return Outcome("allowed", "another valid request")
    same = len(samples) == expected.shape[1] and np.abs(samples.T - expected).max() <= 1 / 32767
    return Outcome("same") if same else wrong("other samples of the same record")
