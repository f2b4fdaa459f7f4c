"""Audio to start from, in files and in arrays: as much is read as is needed, and whatever is wrong is one line."""

from __future__ import annotations

import os
import struct
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr

from sao_onnx.audio.initial import read_part
from sao_onnx.audio.prepare import Part, prepare
from sao_onnx.errors import AudioFileError, RequestError
from sao_onnx.request import Request
from tests.processes import succeed
from tests.recordings import RATE

FORMATS = {
    "wav": ("WAV", "PCM_16"),
    "float": ("WAV", "FLOAT"),
    "adpcm": ("WAV", "MS_ADPCM"),
    "gsm": ("WAV", "GSM610"),
    "aiff": ("AIFF", "PCM_24"),
    "alac": ("CAF", "ALAC_16"),
    "flac": ("FLAC", "PCM_16"),
    "vorbis": ("OGG", "VORBIS"),
    "opus": ("OGG", "OPUS"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
}
SECONDS = 8


def noise(rate: int, channels: int = 2, seconds: float = SECONDS) -> np.ndarray:
    return np.random.default_rng(3).uniform(-0.4, 0.4, (channels, round(rate * seconds))).astype(np.float32)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """A file of noise of a format and a rate; made once."""
    folder = tmp_path_factory.mktemp("files")

    def made(name: str, rate: int) -> Path:
        container, codec = FORMATS[name]
        path: Path = folder / f"{name}-{rate}"
        if not path.exists():
            soundfile.write(path, noise(rate, 1 if name == "gsm" else 2).T, rate, format=container, subtype=codec)
        return path

    return made


def whole(path: Path, part: Part) -> np.ndarray:
    """The same part of the whole file, read and resampled in one go."""
    samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    samples = np.repeat(samples, 2, axis=1) if samples.shape[1] == 1 else samples
    if rate != part.rate:
        samples = soxr.resample(samples, rate, part.rate, quality="VHQ")
    first = round(part.start * part.rate)
    return samples[first : first + part.frames].T


@pytest.mark.parametrize("start", [0.0, 0.3, 5.0123])
@pytest.mark.parametrize("name", FORMATS)
def test_a_part_is_what_the_whole_file_has_there(file, name, start):
    rate = 48000 if name == "opus" else RATE
    part = Part(start, RATE, 2, RATE)
    np.testing.assert_array_equal(read_part(file(name, rate), part), whole(file(name, rate), part))


@pytest.mark.parametrize("start", [0.0, 3.21])
@pytest.mark.parametrize("rate", [8000, 11025, 22050, 32000, 44099, 48000, 96000, 192000])
def test_resampled_parts(file, rate, start):
    """The same but for the rounding of the resampler, which begins in another place."""
    part = Part(start, RATE, 2, RATE)
    found, expected = read_part(file("float", rate), part), whole(file("float", rate), part)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=2e-5 if start else 0)


@pytest.mark.parametrize("rate", [RATE, 48000])
@pytest.mark.parametrize("name", ["wav", "flac", "vorbis"])
def test_a_part_at_the_end(file, name, rate):
    part = Part(SECONDS - 0.1, 10**7, 2, RATE)
    found = read_part(file(name, rate), part)
    assert found.shape == (2, 4410)
    np.testing.assert_allclose(found, whole(file(name, rate), part), atol=2e-5)
    for start in (SECONDS, SECONDS + 100, 1e9):
        message = rf"init_start is {start:.15g}, expected 0 to 7\.999; the audio is 8\.000 s long"
        with pytest.raises(RequestError, match=message):
            read_part(file(name, rate), Part(start, 100, 2, RATE))


@pytest.mark.parametrize("rate", [RATE, 48000])
def test_arrays_are_read_like_files(file, rate):
    samples, _ = soundfile.read(file("float", rate), dtype="float32")
    for start in (0.0, 2.5):
        part = Part(start, 3 * RATE, 2, RATE)
        np.testing.assert_array_equal(prepare(samples.T, rate, part), read_part(file("float", rate), part))


@pytest.mark.parametrize("name", ["wav", "flac", "vorbis", "mp3"])
def test_a_long_file_costs_no_more_memory_than_its_part(tmp_path, name):
    container, codec = FORMATS[name]
    path = tmp_path / "long"
    with soundfile.SoundFile(path, "w", 48000, 2, codec, format=container) as long:
        for _ in range(300):
            long.write(np.zeros((48000, 2), np.float32))
    read_part(path, Part(0, 100, 2, RATE))  # Loads what is loaded once.
    tracemalloc.start()
    try:
        for start in (0.0, 250.0):
            assert read_part(path, Part(start, RATE, 2, RATE)).shape == (2, RATE)
        assert tracemalloc.get_traced_memory()[1] < 16 * 2**20
    finally:
        tracemalloc.stop()


def test_a_recording_to_be_extended_is_in_memory_once(file):
    path = file("float", RATE)
    size = 2 * SECONDS * RATE * 4
    read_part(path, Part(0, 100, 2, RATE))
    tracemalloc.start()
    try:
        read_part(path, Part(0, 10**9, 2, RATE))
        # The blocks, and the whole that they are copied into while they are let go.
        assert tracemalloc.get_traced_memory()[1] < 2 * size + 8 * 2**20
    finally:
        tracemalloc.stop()


def _wav(rate: int, channels: int, size: int, body: bytes, bits: int = 16, riff: int = 2**32 - 1) -> bytes:
    code, frame = (3 if bits == 32 else 1), channels * bits // 8
    fmt = struct.pack("<IHHIIHH", 16, code, channels, rate, rate * frame % 2**32, frame, bits)
    return b"RIFF" + struct.pack("<I", riff) + b"WAVEfmt " + fmt + b"data" + struct.pack("<I", size) + body


def _flac(folder: Path, frames: int | None = None, rate: int | None = None) -> bytes:
    """A FLAC file of 1 s whose header claims something else."""
    soundfile.write(folder / "true.flac", noise(RATE, seconds=1).T, RATE)
    data = bytearray((folder / "true.flac").read_bytes())
    fields = int.from_bytes(data[18:26], "big")
    if frames is not None:
        fields = fields >> 36 << 36 | frames
    if rate is not None:
        fields = fields & (1 << 44) - 1 | rate << 44
    data[18:26] = fields.to_bytes(8, "big")
    return bytes(data)


SOUND = bytes(range(1, 101)) * 4

DAMAGED: dict[str, tuple[Any, str]] = {
    "1 Hz": (lambda _: _wav(1, 2, 400, SOUND), "has a sample rate of 1 Hz, expected 1000 to 1000000"),
    "1 Hz in FLAC": (lambda folder: _flac(folder, rate=1), "has a sample rate of 1 Hz"),
    "2^31 - 1 Hz": (lambda _: _wav(2**31 - 1, 2, 400, SOUND), "has a sample rate of 2147483647 Hz"),
    "2^31 Hz": (lambda _: _wav(2**31, 2, 400, SOUND), "cannot be read as audio"),
    "0 Hz": (lambda _: _wav(0, 2, 400, SOUND), "cannot be read as audio"),
    "1024 channels": (lambda _: _wav(RATE, 1024, 204800, SOUND * 512), "has 1024 channels, expected at most 64"),
    "no channels": (lambda _: _wav(RATE, 0, 400, SOUND), "cannot be read as audio"),
    "no frames": (lambda _: _wav(RATE, 2, 0, b""), "is empty, expected at least one frame of audio"),
    "10^9 frames in 400 bytes": (lambda _: _wav(RATE, 2, 4 * 10**9, SOUND, riff=2 * 10**9), "is cut off or damaged"),
    "2^36 frames": (lambda folder: _flac(folder, frames=2**36 - 1), "is cut off or damaged: .* and ends after 44100"),
    "NaN": (lambda _: _wav(RATE, 1, 400, np.full(100, np.nan, "f4").tobytes(), 32), "holds NaN or infinite samples"),
    "infinite": (lambda _: _wav(RATE, 1, 400, np.full(100, np.inf, "f4").tobytes(), 32), "holds NaN or infinite samples"),
    "text": (lambda _: b"Dear reader,\n" * 50, "cannot be read as audio"),
    "nothing": (lambda _: b"", "cannot be read as audio"),
    "a little MP3": (lambda _: b"\xff\xfb\x90\x64" + bytes(96), r"cannot be read as audio: Format not recognised\."),
    "half a header": (lambda _: _wav(RATE, 2, 400, SOUND)[:30], "cannot be read as audio"),
    "half a WAV": (lambda _: _wav(RATE, 2, 8000, SOUND, riff=8036), "is cut off or damaged: it should hold 2000 frames"),
    "half a FLAC": (lambda folder: (data := _flac(folder))[: len(data) // 2], "cannot be read as audio"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_files_are_one_line(engine, tmp_path, name):
    content, message = DAMAGED[name]
    path = tmp_path / "rec.wav"
    path.write_bytes(content(tmp_path))
    with pytest.raises(AudioFileError, match=rf"rec\.wav {message}") as caught:
        engine.plan(Request("rain", init_audio=path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("size", [0, 2**31 - 1, 2**31, 2**32 - 1])
def test_a_wav_that_went_through_a_pipe(engine, tmp_path, size):
    (tmp_path / "rec.wav").write_bytes(_wav(RATE, 2, size, SOUND, riff=size))
    if size:
        assert engine.plan(Request("rain", init_audio=tmp_path / "rec.wav")).recording.array.shape == (2, 100)
    else:
        with pytest.raises(AudioFileError, match="is empty"):
            engine.plan(Request("rain", init_audio=tmp_path / "rec.wav"))


def test_a_flac_of_unknown_length(engine, tmp_path):
    (tmp_path / "rec.flac").write_bytes(_flac(tmp_path, frames=0))
    found = engine.plan(Request("rain", init_audio=tmp_path / "rec.flac", init_start=0.25)).recording.array
    np.testing.assert_array_equal(found, soundfile.read(tmp_path / "true.flac", dtype="float32")[0].T[:, RATE // 4 :])
    with pytest.raises(RequestError, match=r"expected 0 to 0\.999; the audio is 1\.000 s long"):
        engine.plan(Request("rain", init_audio=tmp_path / "rec.flac", init_start=2))


def test_a_damaged_end_does_not_matter_where_it_is_not_needed(engine, tmp_path):
    soundfile.write(tmp_path / "true.flac", noise(RATE).T, RATE)
    data = (tmp_path / "true.flac").read_bytes()
    (tmp_path / "cut.flac").write_bytes(data[: len(data) * 3 // 4])
    one, other = (engine.plan(Request("rain", init_audio=tmp_path / name)) for name in ("true.flac", "cut.flac"))
    assert one.recording == other.recording
    with pytest.raises(AudioFileError, match="cannot be read as audio"):
        engine.plan(Request("rain", init_audio=tmp_path / "cut.flac", extend=1))


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("missing.wav", "does not exist"),
        ("file/rec.wav", "does not exist"),
        ("folder", "is a folder, expected an audio file"),
        ("a\0b.wav", "cannot be read"),
        ("x" * 5000, "cannot be read: File name too long"),
        ("samples.raw", "cannot be read as audio"),
        pytest.param("fifo", "is not an ordinary file", marks=pytest.mark.skipif(sys.platform == "win32", reason="has none")),
        pytest.param("/dev/zero", "is not an ordinary file", marks=pytest.mark.skipif(sys.platform == "win32", reason="no")),
    ],
)
def test_what_is_no_audio_file(engine, tmp_path, path, message):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "samples.raw").write_bytes(SOUND)
    if path == "fifo":
        os.mkfifo(tmp_path / path)
    with pytest.raises(AudioFileError, match=message) as caught:
        engine.plan(Request("rain", init_audio=tmp_path / path))
    assert "System error" not in str(caught.value)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="nothing is forbidden here")
@pytest.mark.parametrize("forbidden", ["folder", "folder/rec.wav"])
def test_a_file_that_may_not_be_read(engine, tmp_path, forbidden):
    (tmp_path / "folder").mkdir()
    soundfile.write(tmp_path / "folder" / "rec.wav", noise(RATE, seconds=1).T, RATE)
    (tmp_path / forbidden).chmod(0)
    try:
        with pytest.raises(AudioFileError, match=r"rec\.wav cannot be read: Permission denied"):
            engine.plan(Request("rain", init_audio=tmp_path / "folder" / "rec.wav"))
    finally:
        (tmp_path / forbidden).chmod(0o700)


def test_a_recording_that_is_too_long_to_be_extended(engine, tmp_path):
    """As a small file can claim and hold: silence is nothing in FLAC."""
    with soundfile.SoundFile(tmp_path / "rec.flac", "w", 1000, 1, "PCM_16", format="FLAC") as file:
        for _ in range(37):
            file.write(np.zeros(100_000, np.int16))
    request = Request("rain", init_audio=tmp_path / "rec.flac", init_start=99, extend=1)
    with pytest.raises(RequestError, match=r"the recording is longer than 3600 s; .* begin later with init_start"):
        engine.plan(request)


def _taken(samples: Any, rate: Any = RATE) -> np.ndarray:
    return prepare(samples, rate, Part(0.0, 1000, 2, RATE))


@pytest.mark.parametrize(
    ("samples", "match"),
    [
        (np.zeros((44100, 2)), r"has shape \(44100, 2\), expected \[channels, frames\].*give samples\.T"),
        (np.zeros((44100, 1)), r"give samples\.T"),
        (np.zeros((6, 2)), "never more channels than frames"),
        (np.zeros((2, 1)), "never more channels than frames"),
        (np.zeros((100, 200)), "has 100 channels, expected at most 64"),
        (np.zeros((1, 2, 100)), r"has shape \(1, 2, 100\)"),
        (RATE, r"has shape \(\), .*init_audio is \(samples, sample_rate\), in this order"),
        ([[0.0, 0.1], [0.2]], "is no array"),
        (None, "expected"),
        (["a"], "has dtype <U1, expected floating point numbers"),
        *(
            (np.zeros((2, 9), kind), f"has dtype {kind}")
            for kind in ("bool", "complex64", "object", "int64", "uint16", "uint32", "uint64", "datetime64")
        ),
        (np.full((2, 9), 1e39), "holds NaN or infinite samples"),
        (np.full((2, 9), -np.inf, np.float16), "holds NaN or infinite samples"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_arrays_that_are_no_recording(samples, match):
    with pytest.raises(RequestError, match=match):
        _taken(samples)


@pytest.mark.parametrize("rate", [0, -1, 1, 999, 2**31, 10**30, 44100.0, "44100", None, True, np.zeros(2)])
def test_rates_that_are_none(rate):
    with pytest.raises(RequestError, match="sample rate"):
        _taken(np.zeros((2, 9)), rate)


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("int8", [-128, 64, 0]),
        ("int16", [-32768, 16384, 0]),
        ("int32", [-(2**31), 2**30, 0]),
        ("uint8", [0, 192, 128]),
        (">i2", [-32768, 16384, 0]),
        ("float64", [-1, 0.5, 0]),
        ("float16", [-1, 0.5, 0]),
        ("float32", [-1, 0.5, 0]),
    ],
)
def test_full_scale_of_every_type(kind, values):
    np.testing.assert_array_equal(_taken(np.array(values, kind)), [[-1, 0.5, 0]] * 2)


def test_what_soundfile_reads_as_integers_is_the_same_sound(file):
    numbers, rate = soundfile.read(file("wav", RATE), dtype="int16")
    floats, _ = soundfile.read(file("wav", RATE), dtype="float32")
    np.testing.assert_array_equal(_taken(numbers.T, rate), _taken(floats.T, rate))


def test_arrays_of_every_layout_are_left_as_they_are():
    samples = noise(RATE, seconds=1)
    expected = samples[:, :1000].copy()
    samples.flags.writeable = False
    frames_first = np.ascontiguousarray(samples.T)
    for same in (samples, frames_first.T, np.repeat(samples, 2, axis=1)[:, ::2], samples.tolist()):
        np.testing.assert_array_equal(_taken(same), expected)
    mine = np.array(samples)
    taken = _taken(mine)
    taken[:] = 0
    np.testing.assert_array_equal(mine, samples)
    before = _taken(mine)
    mine[:] = 0
    np.testing.assert_array_equal(before, expected)


def test_as_much_of_an_array_is_kept_as_is_needed(engine):
    """A plan is sent to other machines."""
    found = engine.plan(Request("rain", init_audio=(noise(RATE, seconds=30), RATE), window_seconds=1))
    (window,) = found.windows
    assert found.recording.array.shape == (2, window.latent_count * found.ratio)


PEAK = """
import sys, resource, sao_onnx
from sao_onnx.request import Request
engine = sao_onnx.load(sys.argv[1])
options = {"init_audio": sys.argv[2]} if len(sys.argv) > 2 else {}
engine.plan(Request("rain", window_seconds=1, **options))
import soundfile, soxr
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="counts kilobytes")
def test_a_process_that_starts_from_a_long_file_stays_small(miniature, tmp_path):
    with soundfile.SoundFile(tmp_path / "long.wav", "w", 48000, 2, "PCM_16") as long:
        for _ in range(600):
            long.write(np.zeros((48000, 2), np.int16))
    without = int(succeed([sys.executable, "-c", PEAK, miniature]))
    within = int(succeed([sys.executable, "-c", PEAK, miniature, tmp_path / "long.wav"]))
    assert within - without < 40_000


def test_the_command_says_it_in_one_line(miniature, command):
    done = command("gen", "rain", "--model", miniature, "--init", "rec.wav", "-o", "a.wav", "--quiet")
    assert done.stderr == "error: rec.wav does not exist\n"
    assert done.returncode == 1
