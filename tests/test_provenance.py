"""What a clip was made with: on the clip, in its file, and made again from there."""

from __future__ import annotations

import json
import os
from dataclasses import replace

import numpy as np
import pytest
import soundfile

import sao_onnx
from sao_onnx.audio.files import encode_audio, read_tags
from sao_onnx.audio.formats import AUDIO_FORMATS
from sao_onnx.errors import AudioFileError
from sao_onnx.provenance import read_provenance
from tests.processes import COMMAND, run


def _command(miniature, *arguments, cwd):
    return run([COMMAND, "gen", *arguments, "--model", miniature], cwd=cwd)


@pytest.mark.parametrize("suffix", AUDIO_FORMATS)
def test_a_file_tells_how_it_was_made(engine, tmp_path, suffix):
    clip = engine.generate(
        "“Rain”, slow", seconds=np.float32(0.5), steps=np.int64(2), seed=3, numbers={"seconds_total": np.float32(2)}
    )
    path = clip.save(tmp_path / f"rain{suffix}")
    found = read_provenance(path)
    assert found == clip.provenance
    assert found.prompt == "“Rain”, slow"
    assert found.seed == 3
    assert found.model == "miniature"
    assert found.precision == "fp32"
    assert found.options == {"seconds": 0.5, "steps": 2, "numbers": {"seconds_total": 2}}
    assert found.init_audio is None
    assert read_tags(path)["title"] == "“Rain”, slow"
    bare = clip.save(tmp_path / f"bare{suffix}", metadata=False)
    assert not {"title", "comment"} & read_tags(bare).keys()
    with pytest.raises(AudioFileError, match="does not say how it was made"):
        read_provenance(bare)


def test_a_drawn_seed_is_recorded(engine):
    clip = engine.generate("rain", seconds=0.1)
    assert clip.provenance.seed == clip.seed


def test_initial_audio_is_recorded_without_its_folder(engine, tmp_path):
    clip = engine.generate("rain", seconds=0.5, seed=1)
    path = clip.save(tmp_path / "rain.wav")
    assert engine.generate("kick", seconds=0.5, init_audio=path).provenance.init_audio == "rain.wav"
    assert engine.generate("kick", seconds=0.5, init_audio=clip).provenance.init_audio == ""
    assert engine.generate("kick", seconds=0.5, latents=clip.latents).provenance.init_audio == ""


@pytest.mark.parametrize(
    ("comment", "message"),
    [
        ("recorded on a Tuesday", "does not say how it was made"),
        ("[1, 2]", "does not say how it was made"),
        ('{"sao-onnx": {"prompt": 3}}', "in a way that this release does not read: prompt"),
        ("FORMAT", "carries a record of format 9, expected at most 2; use the release that made it"),
        # Before its fields, of which another format has others.
        ('{"sao-onnx": {"format": 3, "text": "rain"}}', "carries a record of format 3, expected at most 2"),
        ('{"sao-onnx": {"format": true}}', "carries a record of format True, expected at most 2"),
        ('{"sao-onnx": 3}', "does not say how it was made"),
    ],
)
def test_unreadable_records(engine, tmp_path, comment, message):
    if comment == "FORMAT":
        comment = replace(engine.generate("rain", seconds=0.1).provenance, format=9).to_json()
    path = tmp_path / "a.wav"
    path.write_bytes(encode_audio(np.zeros((2, 100), np.float32), 44100, tags={"comment": comment}))
    with pytest.raises(AudioFileError, match=message):
        read_provenance(path)


def test_made_again_bit_for_bit(miniature, tmp_path):
    options = ("--seconds", 1, "--steps", 3, "--normalize", "lufs", "--fade", "0.01:0.2", "--bits", 24, "--sampler", "euler")
    assert _command(miniature, "slow rain", "-o", "a.wav", *options, cwd=tmp_path).returncode == 0
    done = _command(miniature, "--from", "a.wav", "-o", "b.wav", "--bits", 24, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "a.wav").read_bytes() == (tmp_path / "b.wav").read_bytes()
    # What is given beside it comes first.
    other = _command(miniature, "--from", "a.wav", "-o", "c.flac", "--seed", 1, "--seconds", 0.5, cwd=tmp_path)
    assert other.returncode == 0
    found = read_provenance(tmp_path / "c.flac")
    assert (found.seed, found.prompt, found.options["seconds"]) == (1, "slow rain", 0.5)
    assert found.options["sampler"] == "euler"


def test_made_again_from_initial_audio(miniature, tmp_path):
    soundfile.write(tmp_path / "tone.wav", np.sin(np.arange(44100) / 20), 44100)
    options = ("--init", "tone.wav", "--strength", 0.5, "--seconds", 0.5, "-o", "a.flac")
    assert _command(miniature, "kick", *options, cwd=tmp_path).returncode == 0
    assert _command(miniature, "--from", "a.flac", "-o", "b.flac", cwd=tmp_path).returncode == 0
    assert (tmp_path / "a.flac").read_bytes() == (tmp_path / "b.flac").read_bytes()
    (tmp_path / "tone.wav").unlink()
    gone = _command(miniature, "--from", "a.flac", "-o", "c.flac", cwd=tmp_path)
    assert gone.returncode == 1
    assert "the clip was started from tone.wav, which is not here; name it with --init-audio" in gone.stderr
    assert not (tmp_path / "c.flac").exists()


def test_the_initial_audio_is_found_beside_the_file(miniature, tmp_path):
    """From any folder, and wherever both files have been moved."""
    soundfile.write(tmp_path / "tone.wav", np.sin(np.arange(44100) / 20), 44100)
    options = ("--init-audio", tmp_path / "tone.wav", "--seconds", 0.5, "--steps", 2, "-o", "a.wav")
    assert _command(miniature, "kick", *options, cwd=tmp_path).returncode == 0
    moved, elsewhere = tmp_path / "moved", tmp_path / "elsewhere"
    moved.mkdir()
    elsewhere.mkdir()
    for name in ("tone.wav", "a.wav"):
        (tmp_path / name).rename(moved / name)
    done = _command(miniature, "--from", moved / "a.wav", "-o", "b.wav", cwd=elsewhere)
    assert done.returncode == 0, done.stderr
    assert (moved / "a.wav").read_bytes() == (elsewhere / "b.wav").read_bytes()


def test_audio_that_was_no_file_must_be_named(engine, miniature, tmp_path):
    clip = engine.generate("kick", seconds=0.5, steps=1, init_audio=(np.ones(4410, np.float32), 44100))
    clip.save(tmp_path / "a.wav")
    done = _command(miniature, "--from", "a.wav", "-o", "b.wav", cwd=tmp_path)
    assert done.returncode == 2
    assert "started from audio or latents that were no file; name the audio with --init-audio" in " ".join(done.stderr.split())


FORMER = [
    ({"seconds": 1, "trim": False, "normalize": False}, {"seconds": 1, "full_window": True, "normalize": "none"}),
    ({"trim": True, "normalize": True, "mono": False}, {"normalize": "peak"}),
    ({"seconds": 1.5, "normalize": "lufs", "loudness": -20, "fade_out": 1}, None),
    ({"cfg_scale": 3, "negative_prompt": "hiss", "numbers": {"seconds_total": 2}, "window_seconds": 1}, None),
    ({"bpm": 120, "bars": 1, "beats": 4}, None),
    ({"init_noise_level": 0.6, "init_start": 0.25, "seconds": 0.5, "sampler": "euler"}, None),
    ({"keep": [[0, 0.5], [0.75, 1]], "seconds": 1}, None),
    (
        {"regenerate": [[0.5, 1]], "seconds": 1, "normalize": True},
        {"regenerate": [(0.5, 1)], "seconds": 1, "normalize": "peak"},
    ),
    ({"extend": 1.0, "mono": True}, None),
]
"""Options in the tags of 0.1.0, and what they are now, where that is something else."""


@pytest.mark.parametrize(("former", "present"), FORMER)
def test_files_of_the_former_release(miniature, tmp_path, former, present):
    """Their tags go on to make them again. They have the whole path of the initial audio, of which its name is looked for."""
    soundfile.write(tmp_path / "tone.wav", np.sin(np.arange(44100) / 20), 44100)
    starts = former.keys() & {"init_noise_level", "keep", "regenerate", "extend"}
    init = str(tmp_path / "tone.wav") if starts else None
    engine = sao_onnx.load(miniature, precision="fp32", threads=2)
    expected = engine.generate("rain", **(present or former), steps=2, seed=5, init_audio=init)
    options = {**former, "steps": 2}
    record = {**vars(expected.provenance), "tuning": vars(engine.tuning), "options": options, "init_audio": init, "format": 1}
    del record["bits"], record["init_sha256"]
    (tmp_path / "old").mkdir()
    silence = np.zeros((2, 100), np.float32)
    (tmp_path / "old" / "a.wav").write_bytes(encode_audio(silence, 44100, tags={"comment": json.dumps({"sao-onnx": record})}))
    done = _command(miniature, "--from", "old/a.wav", "-o", "b.wav", "--bits", 32, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Deprecat" not in done.stderr
    found, _ = soundfile.read(tmp_path / "b.wav", dtype="float32", always_2d=True)
    np.testing.assert_array_equal(found.T, expected.samples)


def test_beside_the_file(miniature, tmp_path):
    options = ("--seconds", 0.2, "--json", "--seed", 4, "-o", "a.wav")
    assert _command(miniature, "kick", *options, cwd=tmp_path).returncode == 0
    beside = json.loads((tmp_path / "a.json").read_text())["sao-onnx"]
    assert (beside["prompt"], beside["seed"]) == ("kick", 4)
    (tmp_path / "a.wav").unlink()
    again = _command(miniature, "kick", *options, cwd=tmp_path)
    assert again.returncode == 1
    assert json.loads(again.stdout)["error"]["message"].startswith("a.json exists")
    assert os.listdir(tmp_path) == ["a.json"]


def test_another_model_is_refused(engine, miniature, tmp_path):
    clip = engine.generate("rain", seconds=0.1)
    other = replace(clip.provenance, fingerprint="0" * 12, model="another")
    replace(clip, provenance=other).save(tmp_path / "a.wav")
    done = _command(miniature, "--from", "a.wav", "-o", "b.wav", cwd=tmp_path)
    assert done.returncode == 2
    assert "was made with another (000000000000), and this is miniature" in done.stderr
    assert "--model" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, "the prompt is missing; for example: sao-onnx gen"),
        ([""], 2, 'the prompt is empty, expected a description of the sound, such as "rain on a tin roof"'),
        ([" \t"], 2, "it may be empty only with a recording to start from"),
        (["rain", "-o", "s3:b.wav"], 2, "error: s3:b.wav looks like the address s3://b.wav, expected a file on this machine"),
        (["rain", "-o", "s3:b.wav"], 2, "a file of this name is ./s3:b.wav"),
        (["rain", "-o", "S3:/b/x.wav"], 2, "error: S3:/b/x.wav looks like the address s3://b/x.wav, expected a file"),
        (["rain", "-o", "s3://b/x.wav"], 2, "error: s3://b/x.wav is an address, expected a file on this machine"),
        (["rain", "-o", "S3://b/x.wav"], 2, "error: S3://b/x.wav is an address, expected a file on this machine"),
        (["rain", "-o", "s3://b/x.wav"], 2, "`sao-onnx batch` writes to addresses"),
        (["rain", "--preview", "s3://b/x.wav"], 2, "s3://b/x.wav is an address, expected a file on this machine"),
        (["rain", "--preview", "s3:x.wav"], 2, "error: s3:x.wav looks like the address s3://x.wav, expected a file"),
        (["rain", "--plot", "s3:x.png"], 2, "error: s3:x.png looks like the address s3://x.png, expected a file"),
        (["rain", "--init", "https://x.org/a.wav"], 1, "https://x.org/a.wav is an address: download it first"),
        (["rain", "--init", "s3:a.wav"], 1, "s3:a.wav does not exist; s3:a.wav looks like the address s3://a.wav: download"),
        (["--from", "none.wav"], 1, "none.wav cannot be read"),
        (["rain", "--fade", "slow"], 2, "expected seconds, such as 0.5, or IN:OUT"),
        (["rain", "--fade", "1:2:3"], 2, "expected seconds, such as 0.5, or IN:OUT"),
        (["rain", "--fade", "-1"], 2, "fade_in is -1, expected 0 to 60 seconds"),
        (["rain", "--trim", "noise"], 2, "trim is 'noise'; expected silence"),
        (["rain", "--normalize", "rms"], 2, "normalize is 'rms', expected peak or lufs or none"),
        (["rain", "--loudness", "5"], 2, "expected -70 to 0 LUFS"),
        (["rain", "--bits", "8"], 2, "known: 16, 24, 32"),
        (["rain", "-o", "a.mp3", "--bits", "16"], 2, "leave the bits out"),
    ],
)
def test_bad_options(miniature, tmp_path, arguments, code, message):
    done = _command(miniature, *arguments, cwd=tmp_path)
    assert done.returncode == code
    assert message in done.stderr.replace("\n", " ").replace("  ", " ")
    assert "Traceback" not in done.stderr
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("suffix", AUDIO_FORMATS)
def test_every_format_from_the_command(miniature, tmp_path, suffix):
    done = _command(miniature, "rain", "-o", f"a{suffix}", "--seconds", 0.5, "--mono", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    info = soundfile.info(tmp_path / f"a{suffix}")
    assert info.channels == 1
    assert info.frames / info.samplerate == pytest.approx(0.5, abs=1e-3)
