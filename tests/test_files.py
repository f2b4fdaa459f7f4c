"""Audio files of every format, and the text in them."""

from __future__ import annotations

import io
import sys

import numpy as np
import pytest
import soundfile

from sao_onnx.audio import files
from sao_onnx.audio.files import encode_audio, read_audio, read_tags, write_audio
from sao_onnx.audio.formats import AUDIO_FORMATS
from sao_onnx.errors import AudioFileError, NotEnoughMemoryError, OutputExistsError
from tests.processes import run, succeed


def _tone(frames=4410):
    return np.stack([np.sin(np.arange(frames) / 20), np.cos(np.arange(frames) / 30)]).astype(np.float32) * 0.5


@pytest.mark.parametrize("suffix", AUDIO_FORMATS)
def test_round_trip(tmp_path, suffix):
    path = tmp_path / f"tone{suffix}"
    write_audio(path, encode_audio(_tone(), 44100, suffix))
    samples, rate = read_audio(path)
    assert rate == (48000 if suffix == ".opus" else 44100)
    assert samples.shape == (2, 4800 if suffix == ".opus" else 4410)
    assert samples.dtype == np.float32
    if suffix in (".wav", ".flac"):
        np.testing.assert_allclose(samples, _tone(), atol=1 / 32768)
    elif suffix != ".opus":
        assert np.abs(samples - _tone()).mean() < 0.05


@pytest.mark.parametrize(
    ("suffix", "bits", "subtype", "error"),
    [(".wav", 16, "PCM_16", 2**-15), (".wav", 24, "PCM_24", 2**-23), (".wav", 32, "FLOAT", 0), (".flac", 24, "PCM_24", 2**-23)],
)
def test_bits(tmp_path, suffix, bits, subtype, error):
    path = tmp_path / f"tone{suffix}"
    path.write_bytes(encode_audio(_tone(), 44100, suffix, bits=bits))
    assert soundfile.info(path).subtype == subtype
    np.testing.assert_allclose(read_audio(path)[0], _tone(), atol=error)


def test_floating_point_keeps_what_is_beyond_full_scale(tmp_path):
    path = tmp_path / "loud.wav"
    path.write_bytes(encode_audio(4 * _tone(), 44100, bits=32))
    assert np.abs(read_audio(path)[0]).max() > 1.9


@pytest.mark.parametrize(
    ("suffix", "bits", "message"),
    [
        (".wav", 8, "known: 16, 24, 32"),
        (".flac", 32, "known: 16, 24"),
        (".mp3", 16, "leave the bits out"),
        (".ogg", 0, "leave the bits out"),
        (".wav", [16], "known: 16, 24, 32"),
    ],
)
def test_unknown_bits(suffix, bits, message):
    with pytest.raises(AudioFileError, match=message):
        encode_audio(_tone(), 44100, suffix, bits=bits)


@pytest.mark.parametrize("suffix", AUDIO_FORMATS)
def test_tags(tmp_path, suffix):
    path = tmp_path / f"tone{suffix}"
    tags = {"title": "“Rain” & wind, 大雨", "comment": '{"a": 1}' * 100}
    path.write_bytes(encode_audio(_tone(), 44100, suffix, tags=tags))
    found = read_tags(path)
    assert {name: found[name] for name in tags} == tags
    path.write_bytes(encode_audio(_tone(), 44100, suffix))
    assert "comment" not in read_tags(path)


def test_tags_of_what_is_no_audio(tmp_path):
    (tmp_path / "a.wav").write_text("no")
    with pytest.raises(AudioFileError, match="cannot be read as audio"):
        read_tags(tmp_path / "a.wav")


@pytest.mark.parametrize("suffix", AUDIO_FORMATS)
@pytest.mark.parametrize("channels", [1, 2])
def test_length_of_a_clip(tmp_path, suffix, channels):
    """Compressed formats end where the clip does."""
    path = tmp_path / f"noise{suffix}"
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, (channels, 61_234)).astype(np.float32)
    path.write_bytes(encode_audio(noise, 44100, suffix))
    samples, rate = read_audio(path)
    assert len(samples) == channels
    assert samples.shape[1] / rate == pytest.approx(61_234 / 44100, abs=1e-4)


def test_wav_is_16_bit_and_clipped(tmp_path):
    path = tmp_path / "loud.wav"
    write_audio(path, encode_audio(_tone() * 10, 44100))
    assert soundfile.info(path).subtype == "PCM_16"
    assert abs(read_audio(path)[0]).max() <= 1


def test_unknown_format():
    with pytest.raises(AudioFileError, match=r"'\.xyz'.*\.wav, \.flac, \.ogg"):
        encode_audio(_tone(), 44100, ".xyz")


def test_audio_that_cannot_be_written_is_an_audio_file_error(tmp_path):
    with pytest.raises(AudioFileError, match="does not exist; create it first"):
        write_audio(tmp_path / "x" / "a.wav", b"")
    (tmp_path / "a.wav").write_bytes(b"mine")
    with pytest.raises(OutputExistsError, match="exists; choose another name"):
        write_audio(tmp_path / "a.wav", b"new")
    write_audio(tmp_path / "a.wav", b"new", overwrite=True)
    assert (tmp_path / "a.wav").read_bytes() == b"new"


@pytest.mark.parametrize("content", [b"", b"not audio at all", b"RIFF\xff\xff\xff\xffWAVE"])
def test_not_audio(tmp_path, content):
    (tmp_path / "x.wav").write_bytes(content)
    with pytest.raises(AudioFileError, match="cannot be read as audio"):
        read_audio(tmp_path / "x.wav")
    with pytest.raises(OSError, match="cannot be read as audio"):
        read_audio(tmp_path / "missing.wav")


@pytest.mark.parametrize("suffix", AUDIO_FORMATS)
def test_long_audio_on_a_small_stack(suffix):
    """Such as threads have, and programs on Windows: libvorbis would put the whole clip there. In a process of its own, which
    that would end.
    """
    script = (
        "import sys, threading, numpy, soundfile, soxr; from sao_onnx.audio.files import encode_audio\n"
        "tone = numpy.tile(numpy.sin(numpy.arange(44100, dtype='f4')), (2, 90))\n"
        f"work = lambda: sys.stdout.buffer.write(encode_audio(tone, 44100, {suffix!r}))\n"
        "threading.stack_size(512 * 1024); thread = threading.Thread(target=work); thread.start(); thread.join()"
    )
    done = run([sys.executable, "-c", script], text=False)
    assert done.returncode == 0, done.stderr
    info = soundfile.info(io.BytesIO(done.stdout))
    assert info.frames / info.samplerate == pytest.approx(90, abs=1e-3)


@pytest.mark.parametrize("suffix", AUDIO_FORMATS)
def test_ends_of_blocks_are_not_heard(suffix):
    """A steady tone stays one, wherever the blocks end that are encoded at once."""
    tone = np.sin(np.arange(8 * files.BLOCK) * 2 * np.pi * 441 / 44100).astype(np.float32)[None] * 0.5
    samples, rate = soundfile.read(io.BytesIO(encode_audio(tone, 44100, suffix)))
    expected = np.sin(np.arange(len(samples)) * 2 * np.pi * 441 / rate) * 0.5
    error = np.abs(samples - expected)[2000:-2000]
    assert error.max() < 0.02


def test_lossless_blocks_are_those_of_one_write():
    noise = np.random.default_rng(0).uniform(-1, 1, (2, 2 * files.BLOCK + 1)).astype(np.float32)
    for suffix, bits in ((".wav", 16), (".wav", 24), (".wav", 32), (".flac", 16), (".flac", 24)):
        format = AUDIO_FORMATS[suffix]
        stream = io.BytesIO()
        soundfile.write(stream, noise.T, 44100, format.codecs[bits], format=format.container)
        stream.seek(0)
        whole = soundfile.read(stream, dtype="float32")[0]
        blocks = soundfile.read(io.BytesIO(encode_audio(noise, 44100, suffix, bits=bits)), dtype="float32")[0]
        np.testing.assert_array_equal(whole, blocks)


@pytest.mark.parametrize("suffix", AUDIO_FORMATS)
@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (np.zeros((2, 0), np.float32), "the clip is empty, expected at least one frame"),
        (np.array([[0.5, np.nan]], np.float32), "there are NaN or infinite samples, expected finite ones"),
        (np.array([[0.5, -np.inf]], np.float32), "there are NaN or infinite samples, expected finite ones"),
        (np.zeros(100, np.float32), r"shape \(100,\) and dtype float32, expected float32 \[channels, frames\]"),
        (np.zeros((2, 100), np.int16), r"shape \(2, 100\) and dtype int16, expected float32 \[channels, frames\]"),
    ],
)
def test_what_is_no_clip_is_refused(suffix, samples, message):
    with pytest.raises(AudioFileError, match=message):
        encode_audio(samples, 44100, suffix)


@pytest.mark.parametrize("rate", [44100.5, 44100.0, "44100", None, float("nan"), -1])
def test_what_is_no_sample_rate_is_refused(rate):
    with pytest.raises(AudioFileError, match="a whole number of 1 Hz or more"):
        encode_audio(_tone(), rate)


@pytest.mark.parametrize("number", [int, np.int64])
def test_numbers_of_numpy(number):
    assert encode_audio(_tone(), number(44100), bits=number(24)) == encode_audio(_tone(), 44100, bits=24)


@pytest.mark.parametrize("suffix", AUDIO_FORMATS)
@pytest.mark.parametrize("frames", [1, 2, 1000])
def test_the_shortest_clips(suffix, frames):
    info = soundfile.info(io.BytesIO(encode_audio(np.full((2, frames), 0.5, np.float32), 48000, suffix)))
    assert info.frames == frames


def test_a_wav_file_has_an_end(monkeypatch):
    """Its header counts up to 4 GB of samples, and libsndfile goes on beyond."""
    monkeypatch.setattr(files, "WAV_BYTES", 4410 * 2 * 3)
    encode_audio(_tone(), 44100, bits=24)
    with pytest.raises(AudioFileError, match=r"more than 4 GB of samples; write \.flac, or fewer bits"):
        encode_audio(_tone(), 44100, bits=32)
    encode_audio(_tone(20_000), 44100, ".flac")


@pytest.mark.parametrize("suffix", [".WAV", ".Flac", ".OGG", ".Opus", ".MP3"])
def test_suffixes_in_any_case(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(encode_audio(_tone(), 44100, suffix, tags={"title": "a"}))
    assert soundfile.info(path).format == AUDIO_FORMATS[suffix.lower()].container
    assert read_tags(path) == {"title": "a"}


def test_a_file_of_the_name_that_libsndfile_takes_for_stdin(tmp_path):
    (tmp_path / "-").write_bytes(encode_audio(_tone(), 44100))
    script = "from sao_onnx.audio.files import read_audio; print(read_audio('-')[0].shape)"
    assert succeed([sys.executable, "-c", script], cwd=tmp_path) == "(2, 4410)\n"


def test_a_header_that_claims_more_than_there_is_memory_for(tmp_path, monkeypatch):
    def read(*_, **__):
        raise MemoryError

    (tmp_path / "a.wav").write_bytes(encode_audio(_tone(), 44100))
    monkeypatch.setattr(soundfile, "read", read)
    with pytest.raises(NotEnoughMemoryError, match="says that it is longer than there is memory for"):
        read_audio(tmp_path / "a.wav")
