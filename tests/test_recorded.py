"""A clip made again from what its file says, whoever wrote the file."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import soundfile
import typer

from sao_onnx.audio.files import encode_audio
from sao_onnx.audio.formats import AUDIO_FORMATS
from sao_onnx.audio.tags.texts import LONGEST
from sao_onnx.cli.recorded import recorded_bits, recorded_request
from sao_onnx.errors import AudioFileError, SaoOnnxError, SaoOnnxWarning
from sao_onnx.option import MAX_REGIONS, MAX_TEXT
from sao_onnx.provenance import read_provenance
from sao_onnx.request import Request
from tests.processes import COMMAND, run

every_format = pytest.mark.parametrize("suffix", AUDIO_FORMATS)


def _command(miniature, *arguments, cwd):
    return run([COMMAND, "gen", *arguments, "--model", miniature], cwd=cwd)


def _tone(path, pitch=20.0):
    soundfile.write(path, np.sin(np.arange(44100) / pitch), 44100)


@every_format
def test_any_prompt_makes_the_same_file_again(miniature, tmp_path, suffix):
    """Of thousands of characters of every kind, and as many to lead away from."""
    prompt = "雨 «é» 𝄞 \u2028 \x1b[31m \t \\ \" ' % { \x7f" + "雨" * 8000 + "x" * 25_000
    options = ("--seconds", 0.3, "--steps", 1, "--seed", 3, "--cfg", 2, "--negative", "é" * 5000)
    first = _command(miniature, prompt, "-o", f"a{suffix}", *options, cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    assert read_provenance(tmp_path / f"a{suffix}").prompt == prompt
    again = _command(miniature, "--from", f"a{suffix}", "-o", f"b{suffix}", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()


@every_format
def test_an_empty_prompt(engine, tmp_path, suffix):
    clip = engine.generate("", seconds=0.1, steps=1)
    assert read_provenance(clip.save(tmp_path / f"a{suffix}")) == clip.provenance


def test_the_longest_request_fits_into_every_file(engine):
    """So what is too long is refused with the request, before the work."""
    regions = [(index + 0.1234567890123, index + 0.7234567890123) for index in range(MAX_REGIONS)]
    request = Request("\x01" * MAX_TEXT, negative_prompt="\x01" * MAX_TEXT, keep=regions, regenerate=regions)
    recorded = engine.generate("a", seconds=0.1, steps=1).provenance
    options = json.dumps(request.given())
    assert len(options) + 6 * MAX_TEXT + len(recorded.to_json()) + 1000 < LONGEST


def test_a_long_prompt_has_a_short_title(engine, tmp_path):
    with pytest.warns(SaoOnnxWarning, match="longer than the 64 tokens"):
        clip = engine.generate("kick\n " * 1000, seconds=0.1, steps=1)
    path = clip.save(tmp_path / "a.wav")
    with soundfile.SoundFile(path) as file:
        assert file.title.startswith("kick kick")
        assert file.title.endswith("…")
        assert len(file.title) == 200


def test_bits_are_those_of_the_file(miniature, tmp_path):
    options = ("--seconds", 0.2, "--steps", 1, "--bits", 32, "--json")
    assert _command(miniature, "rain", "-o", "a.wav", *options, cwd=tmp_path).returncode == 0
    for source in ("a.wav", "a.json"):
        done = _command(miniature, "--from", source, "-o", "b.wav", "--force", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "a.wav").read_bytes() == (tmp_path / "b.wav").read_bytes()


@pytest.mark.parametrize(
    ("written", "recorded", "output", "expected"),
    [
        (None, 24, "b.wav", 24),
        (None, 24, "b.FLAC", 24),
        (None, 24, "-", 24),
        (None, 24, None, 24),
        (None, 24, "{prompt}-{seed}.flac", 24),
        (16, 24, "b.wav", 16),
        (None, 32, "b.flac", None),
        (None, 32, "b.ogg", None),
        (None, None, "b.wav", None),
        (None, 24, "b.xyz", None),
    ],
)
def test_bits_that_are_taken(engine, tmp_path, written, recorded, output, expected):
    clip = engine.generate("rain", seconds=0.1, steps=1)
    record = read_provenance(clip.save(tmp_path / "a.wav", bits=recorded))
    assert recorded_bits(written, record, output) == expected
    assert recorded_bits(written, None, output) == written


def test_other_initial_audio_of_the_same_name_is_not_taken(miniature, tmp_path):
    """The right one is found here or beside the file, and what is read is said."""
    here, beside = tmp_path / "here", tmp_path / "beside"
    here.mkdir()
    beside.mkdir()
    _tone(beside / "tone.wav")
    options = ("--init", beside / "tone.wav", "--seconds", 0.3, "--steps", 1, "-o", beside / "a.wav")
    assert _command(miniature, "kick", *options, cwd=here).returncode == 0
    _tone(here / "tone.wav", pitch=30)
    done = _command(miniature, "--from", beside / "a.wav", "-o", "b.wav", cwd=here)
    assert done.returncode == 0, done.stderr
    assert f"starting from {beside / 'tone.wav'}\n" in done.stderr
    assert (here / "b.wav").read_bytes() == (beside / "a.wav").read_bytes()
    _tone(beside / "tone.wav", pitch=40)
    changed = _command(miniature, "--from", beside / "a.wav", "-o", "c.wav", cwd=here)
    assert changed.returncode == 1
    assert "started from tone.wav, and " in changed.stderr
    assert "is not what it was then; name the file with --init-audio, if its sound is the same" in changed.stderr
    named = _command(miniature, "--from", beside / "a.wav", "-o", "c.wav", "--init", "tone.wav", cwd=here)
    assert named.returncode == 0, named.stderr


# Whoever wrote the tags.


@pytest.fixture(scope="module")
def record(engine):
    return asdict(engine.generate("rain", seconds=0.1, steps=1).provenance)


def _again(engine, path):
    """As far as a clip is made again before the work."""
    recorded = read_provenance(path)
    engine.plan(recorded_request(None, {}, recorded, path))


OPTIONS = [
    ({"mono": "false"}, "mono is 'false', expected True or False"),
    ({"mono": 1}, "mono is 1, expected True or False"),
    ({"keep": 5}, "keep is 5, expected pairs of numbers"),
    ({"keep": "0:1"}, "keep is '0:1', expected pairs of numbers"),
    ({"keep": [[0, 1]] * 1001}, "keep has 1001 regions, expected at most 1000"),
    ({"keep": [["a" * 9999, 1]]}, "the edge of a region of keep is 'aaaa"),
    ({"numbers": 5}, "numbers is 5, expected numbers"),
    ({"numbers": ["x" * 9999]}, "numbers is ['xxxx"),
    ({"numbers": {"a\nb": "x"}}, r"a\nb is 'x', expected a finite number"),
    ({"numbers": {"\x1b[31m" * 99: 1}}, r"no number conditioner '\x1b[31m"),
    ({"steps": 10**12}, "steps is 1000000000000, expected 1 to 1000000"),
    ({"steps": 2.5}, "steps is 2.5, expected a whole number"),
    ({"steps": "5"}, "steps is '5', expected a whole number"),
    ({"steps": True}, "steps is True, expected a whole number"),
    ({"seconds": 1e308}, "seconds is 1e+308, expected at most 3600"),
    ({"seconds": 10**400}, "expected a finite number"),
    ({"window_seconds": 1e308}, "window_seconds is 1e+308, expected more than 0 and at most"),
    ({"normalize": ["peak"]}, "normalize is ['peak'], expected peak or lufs or none"),
    ({"sampler": {"a": 1}}, "sampler is {'a': 1}, expected"),
    ({"negative_prompt": 5}, "negative_prompt is 5, expected text"),
    ({"negative_prompt": "x" * 100_001}, "negative_prompt has 100,001 characters, expected at most 100,000"),
    ({"seed": 5}, "found 'seed', which is no option that a record has"),
    ({"init_audio": "/etc/passwd"}, "found 'init_audio', which is no option that a record has"),
    ({"latents": [[0.5]]}, "found 'latents', which is no option that a record has"),
    ({"__class__": 1}, "found '__class__', which is no option that a record has"),
    ({"\x1b[31m" + "x" * 99_999: 1}, r"found '\x1b[31mxxx"),
    (5, "options: found 5, expected an object"),
]

FIELDS = [
    ({"prompt": 5}, "prompt: found 5, expected a string"),
    ({"prompt": "x" * 100_001}, "the prompt has 100,001 characters, expected at most 100,000"),
    ({"seed": -1}, "seed is -1, expected 0 to 4294967295"),
    ({"seed": 2**32}, "seed is 4294967296, expected 0 to 4294967295"),
    ({"seed": 10**400}, "seed is 1000"),
    ({"seed": 1.5}, "seed: found 1.5, expected a whole number"),
    ({"seed": True}, "seed: found True, expected a whole number"),
    ({"bits": 8}, "bits: found 8, expected"),
    ({"bits": "16"}, "bits: found '16', expected"),
    ({"bits": True}, "bits: found True, expected"),
    ({"precision": "fp64"}, "precision: found 'fp64', expected"),
    ({"model": "\x1b[31m"}, r"model: found '\x1b[31m', expected a short text"),
    ({"version": "x" * 1000}, "version: found 'xxxx"),
    ({"fingerprint": "a\nb"}, r"fingerprint: found 'a\nb', expected a short text"),
    ({"tuning": {}}, "tuning.threads: missing"),
    ({"tuning": 3}, "tuning: found 3, expected an object"),
    ({"x" * 99_999: 1}, "unknown field"),
    ({"format": "2"}, "carries a record of format '2', expected at most 2; use the release"),
    ({"format": None}, "carries a record of format None"),
    ({"format": 3}, "carries a record of format 3"),
    ({"format": 0}, "carries a record of format 0"),
    ({"format": ["x" * 9999]}, "carries a record of format ['xxx"),
    ({"init_audio": 5}, "init_audio: found 5, expected"),
    ({"init_audio": "/etc/passwd"}, "started from '/etc/passwd', which is no name of a file; name it with --init-audio"),
    ({"init_audio": "../tone.wav"}, "which is no name of a file"),
    ({"init_audio": "sub/tone.wav"}, "which is no name of a file"),
    ({"init_audio": "."}, "which is no name of a file"),
    ({"init_audio": ".."}, "started from .., which is not here"),
    ({"init_audio": "tone.wav/"}, "which is no name of a file"),
    ({"init_audio": "a\nb.wav"}, r"started from 'a\nb.wav', which is no name of a file"),
    ({"init_audio": "a\0b.wav"}, r"started from 'a\x00b.wav', which is no name of a file"),
    ({"init_audio": "x" * 256}, "which is no name of a file"),
    ({"init_audio": "-"}, "started from -, which is not here; name it with --init-audio"),
    ({"init_audio": "fifo.wav"}, "started from fifo.wav, which is not here"),
    ({"init_audio": "tone.wav", "init_sha256": "0" * 64}, "is not what it was then"),
    ({"init_audio": "tone.wav", "options": {"init_start": 1e308}}, "init_start is 1e+308, expected 0 to"),
    ({"init_audio": "text.txt"}, "text.txt cannot be read as audio"),
]


@pytest.mark.skipif(sys.platform == "win32", reason="its names of files have other rules")
@pytest.mark.parametrize(
    ("changes", "message"),
    [*(({"options": options}, message) for options, message in OPTIONS), *FIELDS],
    ids=range(len(OPTIONS) + len(FIELDS)),
)
def test_a_record_that_means_harm(engine, record, tmp_path, monkeypatch, changes, message):
    """One line says what is wrong, before any work and before any file is opened that the user did not name."""
    monkeypatch.chdir(tmp_path)
    os.mkfifo("fifo.wav")
    _tone("tone.wav")
    Path("text.txt").write_text("no audio")
    Path("sub").mkdir()
    _tone("sub/tone.wav")
    comment = json.dumps({"sao-onnx": {**record, **changes}})
    Path("a.wav").write_bytes(encode_audio(np.zeros((2, 100), np.float32), 44100, tags={"comment": comment}))
    with pytest.raises(SaoOnnxError) as caught:
        _again(engine, Path("a.wav"))
    assert message in str(caught.value)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(
    ("comment", "message"),
    [
        ('{"sao-onnx": ' + "[" * 100_000, "does not say how it was made.*: it is nested more than 50 deep"),
        ('{"sao-onnx": ' + '{"a": ' * 60 + "1" + "}" * 61, "nested more than 50 deep"),
        ('{"sao-onnx": {"seed": ' + "9" * 5000 + "}}", "does not say how it was made"),
        ('{"sao-onnx": {"seed": NaN}}', "NaN is not a number"),
        ('{"sao-onnx": {"seed": 1e999}}', "1e999 is too large for a number"),
        ('{"sao-onnx": {"prompt": "\\ud800"}}', "it holds half a character"),
        ('{"sao-onnx": {"prompt": "rain', "does not say how it was made.*: Unterminated string"),
        ("[" * 100_000, "does not say how it was made; only files that sao-onnx wrote with their metadata do$"),
    ],
    ids=range(8),
)
@pytest.mark.parametrize("suffix", [".wav", ".json"])
def test_text_that_means_harm(tmp_path, comment, message, suffix):
    path = tmp_path / f"a{suffix}"
    if suffix == ".wav":
        path.write_bytes(encode_audio(np.zeros((2, 100), np.float32), 44100, tags={"comment": comment}))
    else:
        path.write_text(comment)
    with pytest.raises(AudioFileError, match=message) as caught:
        read_provenance(path)
    assert str(caught.value).isprintable()


@pytest.mark.skipif(sys.platform == "win32", reason="no FIFOs and no /dev")
@pytest.mark.parametrize("suffix", [".wav", ".json"])
@pytest.mark.parametrize("kind", ["fifo", "device", "folder", "missing", "large"])
def test_a_record_is_read_from_ordinary_files_only(tmp_path, suffix, kind):
    path = tmp_path / f"a{suffix}"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "folder":
        path.mkdir()
    elif kind == "large":
        path.write_bytes(b" " * 5_000_000)
    with pytest.raises(AudioFileError, match=r"cannot be read|larger than expected"):
        read_provenance(path)


def test_audio_that_was_no_file_is_named(engine, tmp_path):
    clip = engine.generate("kick", seconds=0.2, steps=1, init_audio=(np.ones(4410, np.float32), 44100))
    path = clip.save(tmp_path / "a.wav")
    with pytest.raises(typer.BadParameter, match="were no file; name the audio with --init-audio"):
        _again(engine, path)
