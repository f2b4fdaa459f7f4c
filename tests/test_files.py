"""Audio files of every format, and the text in them."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile

from sao_onnx.audio.files import encode_audio, read_audio, read_tags, write_audio
from sao_onnx.audio.formats import AUDIO_FORMATS
from sao_onnx.errors import AudioFileError, OutputExistsError


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
    [(".wav", 8, "known: 16, 24, 32"), (".flac", 32, "known: 16, 24"), (".mp3", 16, "leave the bits out")],
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
    if suffix == ".mp3":
        tags["title"] = "?Rain? & wind, ??"
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
