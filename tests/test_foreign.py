"""Recordings in formats that libsndfile does not read are called what they are, with the command that makes a WAV of them."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess

import pytest
import soundfile

from sao_onnx.audio.files import read_audio
from sao_onnx.audio.foreign import SIGNATURES, SUFFIXES, foreign_file, foreign_format
from sao_onnx.errors import AudioFileError
from sao_onnx.serve.bodies import decoded
from sao_onnx.serve.settings import Limits

BOX = b"\x00\x00\x00\x20"
HEADS = {
    "a.m4a": (BOX + b"ftypM4A \x00\x00\x02\x00", "it is AAC or ALAC in MPEG-4 (.m4a)"),
    "a.mp4": (BOX + b"ftypisom\x00\x00\x02\x00", "it is MPEG-4 (.mp4, .m4a)"),
    "b.opus": (BOX + b"ftypiso5\x00\x00\x02\x00", "it is MPEG-4 (.mp4, .m4a)"),
    "called.wav": (BOX + b"ftypM4A \x00\x00\x02\x00", "it is AAC or ALAC in MPEG-4 (.m4a)"),
    "no suffix": (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11\xa6\xd9", "it is Windows Media (.wma, .wmv)"),
    "a.aac": (b"\xff\xf1\x50\x80\x02\x1f\xfc", "it is AAC"),
    "a.mkv": (b"\x1a\x45\xdf\xa3\x93\x42\x82\x88", "it is Matroska or WebM (.mkv, .webm)"),
    "a.avi": (b"RIFF\x00\x10\x00\x00AVI LIST", "it is AVI video"),
    "a.mts": ((b"\x47" + bytes(187)) * 3, "it is MPEG video"),
    "c.wma": (b"something else", "its name says Windows Media"),
}


@pytest.mark.parametrize("name", HEADS)
def test_what_it_is(name, tmp_path):
    head, expected = HEADS[name]
    path = tmp_path / name
    path.write_bytes(head + bytes(2000))
    with pytest.raises(AudioFileError) as caught:
        read_audio(path)
    message = str(caught.value)
    assert f"cannot be read as audio: {expected}; expected WAV, FLAC," in message
    *_, command = message.partition("ffmpeg makes a WAV of it: ")
    assert shlex.split(command) == ["ffmpeg", "-i", str(path), str(path.with_suffix(".wav"))]


def test_a_name_is_quoted(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("my song.m4a", "$(touch x).m4a", "-y.m4a"):
        (tmp_path / name).write_bytes(HEADS["a.m4a"][0])
        *_, command = foreign_file(name).partition("ffmpeg makes a WAV of it: ")
        _, _, source, target = shlex.split(command)
        assert (tmp_path / source).samefile(tmp_path / name)
        assert not target.startswith("-")


def test_everywhere(command, miniature, tmp_path):
    """On the command line, from the library's file as well as its part, and over HTTP."""
    (tmp_path / "a.m4a").write_bytes(HEADS["a.m4a"][0] + bytes(100))
    done = command("gen", "rain", "-m", miniature, "--init-audio", "a.m4a", "-o", "b.wav")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: a.m4a cannot be read as audio: it is AAC or ALAC in MPEG-4 (.m4a); expected WAV,")
    assert done.stderr.endswith("ffmpeg -i a.m4a a.wav\n")
    failed = command("gen", "--from", "a.m4a", "--json")
    assert "it is AAC or ALAC in MPEG-4 (.m4a), expected one of .wav" in json.loads(failed.stdout)["error"]["message"]
    with pytest.raises(AudioFileError, match=r"it is AAC or ALAC in MPEG-4 \(\.m4a\).*ffmpeg -i recording recording\.wav"):
        decoded(HEADS["a.m4a"][0] + bytes(100), Limits())
    with pytest.raises(AudioFileError, match=r"cannot be read; expected WAV, FLAC"):
        decoded(b"Dear reader,", Limits())


def test_notes_are_no_sound(tmp_path):
    (tmp_path / "a.mid").write_bytes(b"MThd\x00\x00\x00\x06\x00\x01\x00\x01\x00\x60")
    with pytest.raises(AudioFileError, match="it is MIDI; it holds notes and no sound; render it with a synthesizer"):
        read_audio(tmp_path / "a.mid")


def test_what_is_read_is_never_foreign(tmp_path):
    """What libsndfile writes is none of these formats, and neither is a damaged file of its own under another name."""
    samples = [0.1, -0.1] * 3000
    for container in soundfile.available_formats().keys() - {"RAW"}:  # Which is nothing but samples.
        for codec in (None, *soundfile.available_subtypes(container)):
            path = tmp_path / "a"
            try:
                soundfile.write(path, samples, 48000, format=container, subtype=codec)
            except (soundfile.LibsndfileError, ValueError, RuntimeError):
                continue
            assert foreign_format(path.read_bytes()[:512]) == "", (container, codec)
    broken = tmp_path / "called.m4a"
    soundfile.write(tmp_path / "a.flac", samples, 48000)
    broken.write_bytes((tmp_path / "a.flac").read_bytes()[:60])
    assert foreign_file(broken) == ""
    for path in ("nothing.m4a", tmp_path):
        assert foreign_file(path) == ""


def test_the_lists_are_lists():
    assert all(suffix == suffix.lower() and suffix.startswith(".") for suffix in SUFFIXES)
    marks = [(start, mark) for start, mark, _ in SIGNATURES]
    assert len(set(marks)) == len(marks)
    assert all(start + len(mark) <= 512 for start, mark in marks)


@pytest.mark.parametrize("suffix", ["m4a", "mp4", "aac", "wma", "mkv", "webm", "avi", "wv", "tta", "ac3", "flv", "ts"])
def test_true_files(suffix, tmp_path):
    """Where ffmpeg is there: it writes them, they are recognised, and the command of the message makes a WAV of them."""
    if shutil.which("ffmpeg") is None:
        pytest.skip("there is no ffmpeg")
    path = tmp_path / f"a b.{suffix}"
    source = ["-f", "lavfi", "-i", "sine=duration=0.3:sample_rate=44100"]
    made = subprocess.run(["ffmpeg", "-loglevel", "error", *source, path], check=False, capture_output=True)
    if made.returncode:
        pytest.skip(f"this ffmpeg writes no {suffix}")
    nameless = tmp_path / "a"
    shutil.copy(path, nameless)
    for name in (path, nameless):
        with pytest.raises(AudioFileError, match="cannot be read as audio: it is ") as caught:
            read_audio(name)
    command = shlex.split(str(caught.value).partition("ffmpeg makes a WAV of it: ")[2])
    subprocess.run([command[0], "-loglevel", "error", *command[1:]], check=True)
    assert read_audio(tmp_path / "a.wav")[0].size
