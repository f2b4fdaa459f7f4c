"""Lists of requests in which some lines are bad: the good ones are made, the bad ones are named, and nothing else happens."""

from __future__ import annotations

import csv
import io
import json
import os
import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

import sao_onnx
import sao_onnx.engine
from sao_onnx.provenance import read_provenance
from sao_onnx.request import kinds
from tests.faults.command import Ended, in_process
from tests.faults.folders import Tree, canaries, changes, tree
from tests.faults.mutate import TEXTS, damaged, dumps, hostile, mutated
from tests.faults.outcome import Fault, Outcome, wrong
from tests.faults.subject import QuickEngine, engine, pristine, quick_engines, recording

WORDS = ("kick", "snare", "rain", "wind", "bell", "tone")

NAMES = (
    *(
        "{index}.wav",
        "{index:03}-{prompt}.wav",
        "{prompt}.flac",
        "{index}-{seed}.mp3",
        "a/{index}.wav",
        "{index}.xyz",
        "{}.wav",
        "{0}.wav",
    ),
    *(
        "{index:>300}.wav",
        "{index:>999999999}.wav",
        "{prompt.__class__}.wav",
        "{prompt!r}.wav",
        "{index",
        "{index:q}.wav",
        ".wav",
        "~{index}.wav",
    ),
)

OUTPUTS = (
    *(
        "../x.wav",
        "../canary/secret.wav",
        "../canary/victim.txt",
        "@folder@/canary/new.wav",
        "@folder@/work/new.wav",
        "sub/x.wav",
        "a\0.wav",
        "x.xyz",
        "x",
        "",
    ),
    *(
        "..",
        ".",
        "b" * 252 + ".wav",
        "雨" * 83 + ".wav",
        "c" * 234 + ".wav",
        "~x.wav",
        "-.wav",
        ".wav",
        "x.WAV",
        "x.wav/",
        "x.json",
        "CON.wav",
    ),
    *(
        "bad-0.wav",
        "bad-0.flac",
        "a\nb.wav",
        "\ud83e.wav",
        "./bad-1.wav",
        "sub/../bad-2.wav",
        "x.mp3",
        "x.opus",
        " .wav",
        "x.wav ",
    ),
)


@dataclass(frozen=True)
class List:
    """A list of requests.

    Attributes:
        name: Of its file.
        data: Its content.
        good: The prompts of lines that must be made, by the names of their files.
        arguments: More for the command.
        refusable: The whole list may be refused: it is no text, or the command is wrong.
    """

    name: str
    data: bytes
    good: dict[str, str]
    arguments: list[str]
    refusable: bool


def start() -> None:
    """From now on, the command uses one engine for all lists."""
    quick_engines()
    shared = engine()

    def load(*arguments: Any, **options: Any) -> QuickEngine:
        return shared

    sao_onnx.load = sao_onnx.engine.load = load


def prepare(rng: random.Random, folder: Path) -> Fault:
    """A list beside a recording that it may name and files that it may not touch."""
    canaries(folder / "canary")
    work = folder / "work"
    work.mkdir()
    soundfile.write(work / "init.wav", recording().T, 44100)
    made = rng.choices((_jsonl, _csv, _text), (6, 3, 1))[0](rng)
    (work / made.name).write_bytes(made.data.replace(b"@folder@", os.fsencode(folder)))
    sidecars, again = rng.random() < 0.25, rng.random() < 0.15
    arguments = ["--json"] if sidecars else []
    shown = made.data[:500].decode("utf-8", "backslashreplace")
    return Fault(
        f"{made.name} {shown!a}{' '.join(['', *made.arguments, *arguments])}{', twice' if again else ''}",
        lambda: _judged(folder, made, arguments, again),
    )


def _good(rng: random.Random, index: int) -> dict[str, Any]:
    line = {
        "prompt": f"{rng.choice(WORDS)} {index}",
        "seconds": 0.1,
        "window_seconds": 0.15,
        "steps": 2,
        "seed": rng.randrange(99),
    }
    return line | rng.choice(
        ({}, {"mono": True}, {"cfg": 2}, {"init": "init.wav", "strength": 0.5}, {"fade": "0.01:0.02"}, {"normalize": "lufs"})
    )


def _bad(rng: random.Random, index: int) -> tuple[Any, str]:
    """A line that is most probably bad."""
    line = _good(rng, index) | {"output": f"bad-{index}.wav"}
    if rng.random() < 0.3:
        line["output"] = rng.choice(OUTPUTS)
        return line, "output"
    known = [name for name, kind in kinds().items() if kind.option.on_command_line]
    return mutated(rng, line, [*known, "strength", "output", "init", "volume", "Prompt"])


def _whole(rng: random.Random, name: str, data: bytes, good: dict[str, str]) -> List:
    """The list, at times with a byte-order mark, other line ends, damaged bytes behind the good lines, or odd arguments."""
    arguments: list[str] = []
    refusable = False
    if rng.random() < 0.1:
        data = b"\xef\xbb\xbf" + data
    if rng.random() < 0.1:
        data = data.replace(b"\n", b"\r\n")
    if rng.random() < 0.1:
        arguments = ["--name", rng.choice(NAMES)]
        refusable = True
    try:
        data.decode("utf-8-sig")
    except UnicodeDecodeError:
        refusable = True
    return List(name, data, good, ["--seed", "5", *arguments], refusable)


def _jsonl(rng: random.Random) -> List:
    rows: list[bytes] = []
    good = {}
    for index in range(rng.randrange(2, 6)):
        if rng.random() < 0.5:
            line = _good(rng, index) | {"output": f"good-{index}.{rng.choice(('wav', 'wav', 'flac', 'ogg'))}"}
            if rng.random() < 0.1:
                line["prompt"] += "\u2028drum"
            good[line["output"]] = line["prompt"]
            rows.append(json.dumps(line, ensure_ascii=rng.random() < 0.5).encode())
        else:
            value = _bad(rng, index)[0] if rng.random() < 0.9 else hostile(rng)
            row = dumps(value).encode("utf-8", "surrogatepass")
            rows.append(damaged(rng, row)[0] if rng.random() < 0.2 else row)
    return _whole(rng, "list.jsonl", b"\n".join(rows) + b"\n", good)


def _csv(rng: random.Random) -> List:
    lines = [(_good(rng, index) | {"output": f"good-{index}.wav"}, True) for index in range(rng.randrange(1, 3))]
    for index in range(rng.randrange(1, 4)):
        line = _bad(rng, index + 5)[0]
        lines.append((line if isinstance(line, dict) else {"prompt": str(line)}, False))
    rng.shuffle(lines)
    known = {name for line, _ in lines for name in line} & {*kinds(), "prompt", "output", "cfg", "init", "strength", "fade"}
    columns = ["prompt", *sorted(known - {"prompt"})]
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for line, _ in lines:
        writer.writerow({name: _cell(rng, value) for name, value in line.items()})
    data = text.getvalue().encode("utf-8", "surrogatepass").replace(b"\0", b"" if rng.random() < 0.5 else b"\0")
    if rng.random() < 0.3:
        # At the end, because a quote without a partner takes the following lines with it.
        data += damaged(rng, f'"{rng.choice(TEXTS)}",1,"2\n'.encode("utf-8", "surrogatepass"))[0]
    good = {line["output"]: line["prompt"] for line, is_good in lines if is_good}
    return _whole(rng, "list.csv", data, good)


def _cell(rng: random.Random, value: Any) -> str:
    return "true" if value is True else "a" * 140_000 if value == "@deep list@" else str(value)


def _text(rng: random.Random) -> List:
    rows = [f"{rng.choice(WORDS)} {rng.randrange(9)}", *(str(rng.choice(TEXTS)) for _ in range(rng.randrange(1, 3)))]
    rng.shuffle(rows)
    return _whole(rng, "list.txt", "\n".join(rows).encode("utf-8", "surrogatepass"), {})


def _judged(folder: Path, made: List, arguments: list[str], again: bool) -> Outcome:
    before = tree(folder)
    command = ["batch", made.name, "-o", "out", "--model", str(pristine()), *made.arguments, *arguments]
    ended = in_process(command, folder / "work")
    outcome = _once(folder, made, before, ended, sidecars=bool(arguments))
    if not again or outcome.verdict not in ("same", "allowed") or isinstance(ended, Outcome):
        return outcome
    after = tree(folder)
    twice = in_process(command, folder / "work")
    if isinstance(twice, Outcome):
        return twice
    if touched := changes(after, tree(folder)):
        return wrong(f"a second run: {min(touched.values())} files", twice.err)
    return outcome if twice.code == ended.code else wrong("a second run ends otherwise", f"{ended.err}\n{twice.err}")


def _once(folder: Path, made: List, before: Tree, ended: Ended | Outcome, *, sidecars: bool) -> Outcome:
    touched = changes(before, tree(folder))
    inside = {
        path.removeprefix("work/out/") for path, kind in touched.items() if path.startswith("work/out/") and kind == "new"
    }
    outside = {path: kind for path, kind in touched.items() if not path.startswith("work/out")}
    checks: tuple[Callable[[], str], ...] = (
        lambda: f"{min(outside.values())} {min(outside)}" if outside else "",
        lambda: "a file that is not whole" if any(path.endswith(".partial") for path in inside) else "",
        lambda: next(filter(None, (_not_whole(folder / "work" / "out" / path) for path in sorted(inside))), ""),
    )
    for check in checks:
        if problem := check():
            return wrong(problem, "" if isinstance(ended, Outcome) else ended.err)
    if isinstance(ended, Outcome):
        return ended
    if "error:" in ended.err or ended.code not in (0, 1) or "Usage:" in ended.err:
        return (
            Outcome("refused", ended.err.strip())
            if made.refusable and not inside
            else wrong("the whole list is refused", ended.err)
        )
    return _lines(folder / "work" / "out", made, ended, inside, sidecars)


def _not_whole(path: Path) -> str:
    if path.is_dir():
        return ""
    if path.suffix == ".json":
        json.loads(path.read_text())
        return ""
    samples, _ = soundfile.read(path)
    return "" if len(samples) and np.isfinite(samples).all() else "a clip without samples"


def _lines(out: Path, made: List, ended: Ended, inside: set[str], sidecars: bool) -> Outcome:
    for name, prompt in made.good.items():
        if name not in inside:
            return wrong("a good line is not made", ended.err)
        if read_provenance(out / name).prompt != prompt:
            return wrong("a clip of another prompt", ended.err)
        if sidecars and f"{name.rpartition('.')[0]}.json" not in inside:
            return wrong("a clip without its sidecar", ended.err)
    clips = {name for name in inside if not (out / name).is_dir() and (not name.endswith(".json"))}
    named = re.findall(r"^line \d+: ", ended.err, re.MULTILINE)
    counted = re.search(r"^(\d+) made, (\d+) there before, (\d+) failed$", ended.err, re.MULTILINE)
    if counted is None or int(counted[1]) != len(clips):
        return wrong("the summary counts other clips", ended.err)
    if len(ended.out.splitlines()) < len(clips):
        return wrong("a clip is not printed", ended.out)
    if int(counted[3]) != len(named):
        return wrong("bad lines that are not named", ended.err)
    if ended.code != (1 if named else 0):
        return wrong(f"exit code {ended.code}", ended.err)
    return Outcome("allowed", "good lines made, bad lines named") if named else Outcome("same")
