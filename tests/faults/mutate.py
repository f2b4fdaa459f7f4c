"""Values, JSON and bytes that go wrong in the ways in which files do, by accident and on purpose."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Sequence
from typing import Any

RAW = {
    "@deep list@": "[" * 100_000 + "]" * 100_000,
    "@deep object@": '{"a":' * 3000 + "1" + "}" * 3000,
    "@many digits@": "9" * 5000,
    "@beyond floats@": "1e999",
    "@half a character@": '"kick \\ud83e"',
    "@no number@": "NaN",
    "@no JSON@": "undefined",
    "@a comma@": '"kick",',
}
"""JSON that Python does not write, by the text that stands for it."""

TEXTS: tuple[str, ...] = (
    *(
        "",
        " ",
        "\0",
        "kick\0",
        "a\nb",
        "\r\n",
        "\u2028",
        "雨",
        "\ud83e",
        "\x1b[2J",
        "'",
        '"',
        "%s",
        "{}",
        "{prompt}",
        "{0.__class__}",
    ),
    *(
        "nan",
        "inf",
        "-1",
        "0",
        "1",
        "1e400",
        "1_0",
        "٣",
        "0x10",
        "true",
        "None",
        "[]",
        "3:8.5",
        "1:",
        ":",
        "2:1",
        "seconds_total=1",
    ),
    *("..", "../canary/secret.wav", "../canary/victim.txt", "/etc/passwd", "/dev/zero", "/proc/self/mem", "~", "~root/x.wav"),
    *("C:\\x", "\\\\host\\x", "CON", "a/b", "a" * 300, "kick " * 2000, "file:///etc/passwd", "http://127.0.0.1:9/", "init.wav"),
    *("int8", "fp32", "fp16", "euler", "pingpong", "dpmpp", "peak", "lufs", "none", "seconds_total", "../canary/fifo", "-"),
)

NUMBERS: tuple[Any, ...] = (
    *(
        0,
        1,
        2,
        3,
        -1,
        16,
        255,
        256,
        65535,
        65536,
        2**31 - 1,
        2**31,
        2**32 - 1,
        2**32,
        2**53 + 1,
        2**63 - 1,
        2**63,
        2**64,
        10**30,
    ),
    *(-(2**31), -(2**63), 10**400, 0.0, -0.0, 0.5, 1.0, 2.5, -2.5, 1e-9, 5e-324, 1e15, 1e16, 1e300, 1.7e308, -1e300),
    *(float("nan"), float("inf"), -float("inf")),
)

OTHERS: tuple[Any, ...] = (
    None,
    True,
    False,
    [],
    {},
    [[]],
    [None],
    {"": None},
    [0, 1],
    [[0, 1]],
    {"seconds_total": 1},
    {"a": {"b": []}},
)


def hostile(rng: random.Random) -> Any:
    """A value that JSON can hold and that hardly anybody expects."""
    return copy.deepcopy(rng.choice(rng.choice((TEXTS, NUMBERS, OTHERS, tuple(RAW)))))


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Every list and object inside of a value, with each of its indices or names."""
    if not isinstance(value, (dict, list)):
        return []
    keys = list(value) if isinstance(value, dict) else range(len(value))
    return [place for key in keys for place in ((value, key), *_places(value[key]))]


def _replace(rng: random.Random, holder: Any, key: Any, known: Sequence[str]) -> str:
    holder[key] = hostile(rng)
    return f"{key} = {str(holder[key])[:40]!r}"


def _remove(rng: random.Random, holder: Any, key: Any, known: Sequence[str]) -> str:
    del holder[key]
    return f"without {key}"


def _add(rng: random.Random, holder: Any, key: Any, known: Sequence[str]) -> str:
    if isinstance(holder, list):
        holder.insert(key, hostile(rng))
        return f"one more before {key}"
    name = rng.choice([*known, "x", "", "__class__", "format", "a" * 200, "\ud83e"])
    holder[name] = hostile(rng)
    return f"{name[:20]!r} = {str(holder[name])[:40]!r}"


def _change(rng: random.Random, holder: Any, key: Any, known: Sequence[str]) -> str:
    old = holder[key]
    if isinstance(old, bool) or old is None:
        holder[key] = not old
    elif isinstance(old, (int, float)):
        holder[key] = rng.choice([old + 1, old - 1, -old, old * 2, old * 10**6, float(old), str(old), [old], old + 0.5])
    elif isinstance(old, str):
        at = rng.randrange(len(old) + 1)
        holder[key] = rng.choice([old[:at], old[:at] + rng.choice(TEXTS) + old[at:], old.upper(), old * 3, [old]])
    elif isinstance(old, list):
        holder[key] = rng.choice([old[::-1], old * 2, old[:1], {str(i): one for i, one in enumerate(old)}])
    else:
        holder[key] = rng.choice([list(old.items()), [old], old | {"x": old}])
    return f"{key} changed to {str(holder[key])[:40]!r}"


def _exchange(rng: random.Random, holder: Any, key: Any, known: Sequence[str]) -> str:
    other = rng.choice(list(holder) if isinstance(holder, dict) else range(len(holder)))
    holder[key], holder[other] = holder[other], holder[key]
    return f"{key} and {other} exchanged"


_WAYS: tuple[Callable[[random.Random, Any, Any, Sequence[str]], str], ...] = (
    _replace,
    _replace,
    _change,
    _change,
    _add,
    _remove,
    _exchange,
)


def mutated(rng: random.Random, value: Any, known: Sequence[str] = ()) -> tuple[Any, str]:
    """A copy of decoded JSON with one to three changes, and what they are.

    Args:
        rng: Where chance comes from.
        value: An object or a list.
        known: Names that may be added to objects.
    """
    found = copy.deepcopy(value)
    said = []
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        if not (places := _places(found)):
            break
        holder, key = rng.choice(places)
        said.append(rng.choice(_WAYS)(rng, holder, key, known))
    return found, ", ".join(said)


def dumps(value: Any) -> str:
    """JSON of a value, with what `RAW` stands for."""
    # A number of more than 4,300 digits has no text in Python.
    text = json.dumps(value)
    for name, raw in RAW.items():
        text = text.replace(json.dumps(name), raw)
    return text


def damaged(rng: random.Random, data: bytes, until: int | None = None) -> tuple[bytes, str]:
    """Bytes as a bad disk, a bad copy or a bad person leaves them, and what was done.

    Args:
        rng: Where chance comes from.
        data: The whole.
        until: Only bytes before this one are changed.
    """
    end = len(data) if until is None else min(until, len(data))
    at = rng.randrange(end) if end else 0
    size = min(rng.choice((1, 2, 4, 16, 512, 4096)), end - at)
    ways: dict[str, Callable[[], bytes]] = {
        "flip a bit": lambda: data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :] if end else b"x",
        "change bytes": lambda: data[:at] + rng.randbytes(size) + data[at + size :],
        "zero bytes": lambda: data[:at] + bytes(size) + data[at + size :],
        "fill bytes": lambda: data[:at] + b"\xff" * size + data[at + size :],
        "cut off": lambda: data[:at],
        "add bytes": lambda: data + rng.randbytes(max(size, 1)),
        "insert bytes": lambda: data[:at] + rng.randbytes(max(size, 1)) + data[at:],
        "leave out": lambda: data[:at] + data[at + max(size, 1) :],
        "repeat a part": lambda: data[: at + size] + data[at:],
        "empty": lambda: b"",
    }
    way = rng.choices(list(ways), [6, 4, 3, 2, 3, 1, 2, 2, 1, 0.3])[0]
    return ways[way](), f"{way} at {at} of {len(data)}, {size} bytes"
