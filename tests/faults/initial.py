"""Initial audio that is damaged, lies about itself, or is an array of an odd shape: refused, or a clip."""

from __future__ import annotations

import functools
import io
import os
import random
import struct
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import soundfile

from tests.faults.folders import canaries, changes, tree
from tests.faults.mutate import damaged
from tests.faults.outcome import Fault, Outcome, attempt, wrong
from tests.faults.subject import engine, quick_engines, recording, sound

start = quick_engines

FORMATS = (
    *(
        ("WAV", "PCM_16"),
        ("WAV", "PCM_24"),
        ("WAV", "FLOAT"),
        ("WAV", "DOUBLE"),
        ("WAV", "ULAW"),
        ("WAV", "IMA_ADPCM"),
        ("WAV", "PCM_U8"),
    ),
    *(
        ("FLAC", "PCM_16"),
        ("FLAC", "PCM_24"),
        ("OGG", "VORBIS"),
        ("OGG", "OPUS"),
        ("MP3", "MPEG_LAYER_III"),
        ("AIFF", "PCM_16"),
    ),
    *(
        ("CAF", "PCM_16"),
        ("W64", "PCM_16"),
        ("RF64", "PCM_16"),
        ("AU", "PCM_16"),
        ("WAVEX", "PCM_16"),
        ("VOC", "PCM_16"),
        ("SVX", "PCM_16"),
    ),
)
"""Containers and encodings of libsndfile."""

MOST_CHANNELS = {"SVX": 1, "VOC": 2, "IMA_ADPCM": 2, "MPEG_LAYER_III": 2}
"""Of containers and encodings that do not have room for six."""

HEADERS = {"AU": 24, "CAF": 80, "W64": 140, "FLAC": 60, "OGG": 300, "MP3": 200}
"""Bytes of headers; 64 of others."""


def prepare(rng: random.Random, folder: Path) -> Fault:
    """Initial audio in one of many forms."""
    canaries(folder / "canary")
    (folder / "work").mkdir()
    make = rng.choices((_damaged_file, _lying_file, _odd_file, _array), (6, 4, 1, 4))[0]
    audio, said = make(rng, folder / "work")
    options = rng.choices(
        (
            {"seconds": 0.2, "window_seconds": 0.25},
            {"extend": 0.1},
            {"seconds": 0.2, "init_start": 0.1},
            {"seconds": 0.2, "keep": [(0, 0.1)]},
        ),
        (5, 1, 1, 1),
    )[0]
    return Fault(f"{make.__name__.strip('_')}: {said}; {options}", lambda: _judged(folder, audio, options))


@functools.cache
def _encoded(container: str, codec: str, channels: int) -> bytes:
    stream = io.BytesIO()
    rate = 48000 if codec == "OPUS" else 44100
    audio = np.repeat(recording(), -(-channels // 2), axis=0)[:channels]
    soundfile.write(stream, audio.T, rate, format=container, subtype=codec)
    return stream.getvalue()


def _damaged_file(rng: random.Random, folder: Path) -> tuple[Any, str]:
    container, codec = rng.choice(FORMATS)
    whole = _encoded(container, codec, min(rng.choice((1, 2, 2, 6)), MOST_CHANNELS.get(codec, MOST_CHANNELS.get(container, 6))))
    until = rng.choice((HEADERS.get(container, 64), HEADERS.get(container, 64), 1000, None))
    said = []
    for _ in range(rng.choice((1, 1, 2, 4))):
        whole, what = damaged(rng, whole, until)
        said.append(what)
    path = folder / f"rec.{rng.choice((container.lower(), 'wav'))}"
    path.write_bytes(whole)
    return _given(rng, path), f"{container} {codec}: {', '.join(said)}"


def _given(rng: random.Random, path: Path) -> Any:
    return str(path) if rng.random() < 0.5 else path


SIZES = (0, 1, 2, 3, 4, 255, 65535, 2**31 - 1, 2**31, 2**32 - 1)


def _lying_file(rng: random.Random, folder: Path) -> tuple[Any, str]:
    """A file whose header promises other audio than there is: at a number in it stands another one."""
    container = rng.choice(("WAV", "WAV", "AU", "CAF", "W64", "RF64", "AIFF", "FLAC"))
    data = bytearray(_encoded(container, "PCM_16", 2))
    if container == "FLAC":
        # Rate (20 bits), channels (3), bits (5) and frames (36) of the block STREAMINFO.
        packed = rng.choice((1, 44100, 655350, 2**20 - 1)) << 44 | rng.randrange(8) << 41 | rng.choice((7, 15, 23, 31)) << 36
        data[18:26] = struct.pack(">Q", packed | rng.choice((0, 1, 22050, 2**36 - 1)))
        said = "STREAMINFO"
    else:
        little = container in ("WAV", "W64", "RF64")
        said = ""
        for _ in range(rng.choice((1, 1, 2, 3))):
            form = rng.choice(("H", "I", "I", "Q"))
            at = rng.choice(_numbers(container)) if rng.random() < 0.8 else 2 * rng.randrange(40)
            value = rng.choice(SIZES) % 256 ** struct.calcsize(form)
            struct.pack_into(("<" if little else ">") + form, data, at, value)
            said += f" {form}={value} at {at}"
    path = folder / "rec.wav"
    path.write_bytes(data)
    return _given(rng, path), f"{container}{said}"


def _numbers(container: str) -> tuple[int, ...]:
    """Where a header has channels, rates and sizes."""
    return {
        "WAV": (4, 16, 20, 22, 24, 28, 32, 34, 40),
        "AU": (4, 8, 12, 16, 20),
        "CAF": (12, 20, 28, 36, 40, 44, 48),
        "W64": (16, 56, 64, 66, 68, 72, 76, 78, 96),
        "RF64": (4, 20, 28, 36, 44, 52, 54, 56, 60, 64),
        "AIFF": (4, 16, 20, 22, 26, 28, 30),
    }[container]


def _odd_file(rng: random.Random, folder: Path) -> tuple[Any, str]:
    path = folder / "rec.wav"
    kind = rng.choice(
        (
            "nothing",
            "folder",
            "FIFO",
            "link to itself",
            "empty",
            "/dev/zero",
            "/dev/null",
            "/dev/full",
            "/dev/tty",
            "text",
            "zeros",
            "a\0b",
            "",
        )
    )
    if kind == "folder":
        path.mkdir()
    elif kind == "FIFO":
        os.mkfifo(path)
    elif kind == "link to itself":
        path.symlink_to(path)
    elif kind in ("empty", "text", "zeros"):
        path.write_bytes({"empty": b"", "text": b"RIFF, he said\n" * 99, "zeros": bytes(10**5)}[kind])
    elif kind.startswith("/") or kind in ("", "a\0b"):
        return kind, ascii(kind)
    return _given(rng, path), kind


SHAPES = (
    (),
    (0,),
    (1,),
    (9000,),
    (2, 0),
    (0, 2),
    (2, 1),
    (1, 9000),
    (2, 9000),
    (9000, 2),
    (3, 9000),
    (2, 3, 4),
    (9000, 1),
    (70000, 2),
    (1, 1),
)

RATES: tuple[Any, ...] = (
    *(44100, 44100, 44100, 48000, 8000, 1, 2, 0, -1, 192000, 2**31 - 1, 2**31, 2**63, 10**30, True, None, "44100"),
    *(
        44100.0,
        float("nan"),
        np.int32(44100),
        np.float32(44100),
        np.int64(1),
        np.uint8(200),
        np.array(44100),
        np.array([44100]),
    ),
)


def _array(rng: random.Random, folder: Path) -> tuple[Any, str]:
    shape, rate = rng.choice(SHAPES), rng.choice(RATES)
    dtype = rng.choice(
        ("f4", "f4", "f8", "f2", ">f4", "i2", "i4", "u1", "u8", "?", "c8", "O", "S3", "U2", "M8[s]", "longdouble")
    )
    values = np.resize(np.sin(np.arange(99)) * rng.choice((0, 0.5, 1, 100, 1e30, 1e308)), shape)
    with np.errstate(all="ignore"):
        array = (
            values.astype("f8").astype("i8").astype(dtype)
            if dtype in ("M8[s]", "u8", "i2", "i4", "u1")
            else values.astype(dtype)
        )
    if rng.random() < 0.1 and array.size and array.dtype.kind == "f":
        array.flat[-1] = rng.choice((np.nan, np.inf))
    form = rng.choices(list(FORMS), [6, 1, 1, 1, 1, 1, 1, 1, 1, 1])[0]
    return FORMS[form](array, rate), f"{form} {array.dtype} {shape} at {rate!a}"


FORMS: dict[str, Callable[[Any, Any], Any]] = {
    "a pair": lambda array, rate: (array, rate),
    "strided": lambda array, rate: (array[..., ::-1][..., ::2] if array.ndim else array, rate),
    "masked": lambda array, rate: (np.ma.masked_all(array.shape), rate),
    "a list": lambda array, rate: (array.tolist(), rate),
    "a list of both": lambda array, rate: [array, rate],
    "three": lambda array, rate: (array, rate, 1),
    "alone": lambda array, rate: array,
    "exchanged": lambda array, rate: (rate, array),
    "a recording": lambda array, rate: SimpleNamespace(samples=array, sample_rate=rate),
    "half a recording": lambda array, rate: SimpleNamespace(samples=array),
}
"""Forms of initial audio in Python."""


def _judged(folder: Path, audio: Any, options: dict[str, Any]) -> Outcome:
    before = tree(folder)
    made = attempt(lambda: engine().generate("kick drum", seed=7, steps=2, init_audio=audio, **options))
    if touched := changes(before, tree(folder)):
        return wrong(f"{min(touched.values())} files")
    if isinstance(made, Outcome):
        return made
    if problem := sound(made.samples):
        return wrong(problem)
    if "seconds" in options and made.samples.shape != (2, 8820):
        return wrong(f"a clip of {made.samples.shape}")
    if isinstance(audio, tuple) and len(audio) == 2 and np.ndim(audio[0]) == 2 and len(audio[0]) > 100:
        return wrong("frames taken for channels")
    return Outcome("allowed", "a clip")
