"""Pictures and playing, with their packages and without."""

from __future__ import annotations

import io
import sys
import types
from typing import Any

import numpy as np
import pytest

from sao_onnx.audio import picture
from sao_onnx.audio.picture import PICTURE_SUFFIXES, draw, plot, spectrogram
from sao_onnx.errors import AudioFileError, FileError, MissingExtraError, OutputExistsError, RequestError, SaoOnnxError
from sao_onnx.events import Sampled


@pytest.fixture(scope="module")
def clip(engine):
    return engine.generate("rain", seconds=0.5, seed=1, steps=1)


@pytest.mark.parametrize(("suffix", "start"), [(".png", b"\x89PNG"), (".svg", b"<?xml"), (".pdf", b"%PDF")])
def test_a_picture(clip, tmp_path, suffix, start):
    path = plot(clip, tmp_path / f"clip{suffix}")
    assert path.read_bytes().startswith(start)
    with pytest.raises(OutputExistsError):
        plot(clip, path)
    plot(clip, path, overwrite=True)


def test_a_picture_of_any_sound(tmp_path):
    sound = types.SimpleNamespace(samples=np.zeros((2, 4410), np.float32), sample_rate=44100)
    assert plot(sound, tmp_path / "a.svg", title="nothing").exists()
    left, right, below, levels = draw(sound, "nothing").axes
    assert left.get_title() == "nothing"
    assert (left.get_ylabel(), right.get_ylabel()) == ("left", "right")
    assert levels.get_ylabel() == "dB below the loudest"
    assert below.get_xlim() == (0, 0.1)


def test_frequencies_are_written_as_musicians_read_them():
    *_, below, _ = draw(_sound(44100), "").axes
    assert [label.get_text() for label in below.get_yticklabels()] == ["100", "1k", "10k"]
    assert not any(label.get_text() for label in below.get_yticklabels(minor=True))


def test_channels_of_opposite_phase_are_seen():
    tone = np.sin(2 * np.pi * 1000 * np.arange(44100) / 44100).astype(np.float32)
    together, _, _ = spectrogram(np.stack([tone, tone]), 44100)
    opposite, _, _ = spectrogram(np.stack([tone, -tone]), 44100)
    np.testing.assert_array_equal(together, opposite)
    left, right, *_ = draw(types.SimpleNamespace(samples=np.stack([tone, 0.5 * tone]), sample_rate=44100), "").axes
    assert left.lines[0].get_ydata().max() == pytest.approx(1, abs=0.01)
    assert right.lines[0].get_ydata().max() == pytest.approx(0.5, abs=0.01)


def test_a_single_frame_is_seen():
    sound = types.SimpleNamespace(samples=np.full((2, 1), 0.5, np.float32), sample_rate=44100)
    figure = draw(sound, "")
    figure.savefig(drawn := io.BytesIO(), format="png")
    pixels = _pixels(drawn)
    sound.samples[:] = 2  # Beyond the axes.
    draw(sound, "").savefig(drawn := io.BytesIO(), format="png")
    assert (pixels != _pixels(drawn)).any()


def _pixels(drawn):
    from matplotlib import image

    drawn.seek(0)
    return image.imread(drawn)


@pytest.mark.filterwarnings("error")
def test_letters_that_the_usual_font_lacks_come_from_another():
    letter = "\u1d81"  # Both DejaVu Sans, which lacks it, and STIXGeneral, which has it, come with matplotlib.
    assert picture._lacking(_font("DejaVu Sans"), {letter, "a"}) == {letter}
    families, missing = picture._fonts({"a", letter, "\x07"})
    assert missing == {"\x07"}
    assert any(not picture._lacking(_font(family), {letter}) for family in families)
    figure = draw(_sound(100), f"a {letter}")
    figure.savefig(io.BytesIO(), format="png")
    assert figure.axes[0].get_title() == f"a {letter}"


def _font(family):
    from matplotlib import font_manager

    return font_manager.findfont(family)


def test_a_picture_names_the_prompt_and_the_seed(clip, tmp_path, monkeypatch):
    titles = []

    def remembered(sound, title):
        titles.append(title)
        return draw(sound, title)

    monkeypatch.setattr(picture, "draw", remembered)
    plot(clip, tmp_path / "a.svg")
    assert titles == ["rain\nseed 1"]


def test_a_picture_that_cannot_be_written_is_no_audio_file(clip, tmp_path):
    with pytest.raises(FileError, match="create it first") as caught:
        plot(clip, tmp_path / "none" / "a.png")
    assert not isinstance(caught.value, AudioFileError)


def test_a_picture_of_silence_and_of_mono(clip, tmp_path):
    from dataclasses import replace

    path = plot(replace(clip, samples=np.zeros((1, 4410), np.float32)), tmp_path / "a.png")
    assert path.read_bytes().startswith(b"\x89PNG")


def _sound(frames, channels=2, rate=44100):
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, (channels, frames)).astype(np.float32)
    return types.SimpleNamespace(samples=noise, sample_rate=rate)


TITLES = [
    "for 5$",
    "from 5$ to $10",
    "$\\frac{",
    "a_b^c \\alpha {",
    "two\nlines\r\n and\ta tab",
    "rain on a tin roof, " * 300,
    "x" * 5000,
    "a\x07\x1b[31m\0b",
    "大雨 🌧 العربية हिन्दी",
    "half a character: \ud83d",
    "",
    "\n\n\n\n\n\n",
]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("suffix", PICTURE_SUFFIXES)
def test_a_picture_with_any_title(tmp_path, suffix):
    assert plot(_sound(100), tmp_path / f"a{suffix}", title="$\\frac{ 大雨 \x07 \ud83d").exists()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("title", TITLES)
def test_a_title_stays_in_the_picture(title):
    figure = draw(_sound(100), title)
    figure.savefig(io.BytesIO(), format="png")
    above, *_ = figure.axes
    box, whole = above.title.get_window_extent(), figure.bbox
    assert whole.x0 <= box.x0
    assert box.x1 <= whole.x1
    assert box.height < whole.height / 3


def test_a_long_title_keeps_its_end():
    above, *_ = draw(_sound(100), f"{'rain ' * 1000}\nseed 7").axes
    lines = above.get_title().splitlines()
    assert len(lines) == 4
    assert lines[2] == "…"
    assert lines[3] == "seed 7"


def test_the_style_of_a_user_makes_no_formula_of_a_title():
    import matplotlib as mpl

    with mpl.rc_context({"text.usetex": True}):
        above, *_ = draw(_sound(100), "for 5$").axes
    assert not above.title.get_usetex()
    assert not above.title.get_parse_math()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("frames", "channels", "rate"), [(1, 2, 44100), (2, 1, 44100), (4410, 6, 44100), (100, 40, 44100), (100, 2, 50)]
)
def test_a_picture_of_little(tmp_path, frames, channels, rate):
    assert plot(_sound(frames, channels, rate), tmp_path / "a.png").exists()


@pytest.mark.parametrize("samples", [np.zeros((2, 0)), np.zeros(100), np.full((2, 9), np.nan), np.full((2, 9), np.inf)])
def test_what_cannot_be_drawn(tmp_path, samples):
    sound = types.SimpleNamespace(samples=samples.astype(np.float32), sample_rate=44100)
    with pytest.raises(RequestError, match=r"cannot be drawn, expected finite samples \[channels, frames\]"):
        plot(sound, tmp_path / "a.png")
    assert not list(tmp_path.iterdir())


def test_a_long_sound_is_drawn_with_few_points():
    sound = _sound(5_000_000)
    sound.samples[:, 2_500_000] = 0.9
    left, right, below, _ = draw(sound, "").axes
    for line in [*left.lines, *right.lines]:
        assert len(line.get_xdata()) <= 2 * picture.COLUMNS
        assert line.get_ydata().max() == np.float32(0.9)
        assert line.get_xdata()[line.get_ydata().argmax()] == pytest.approx(2_500_000 / 44100, abs=0.1)
    decibels, seconds, _ = spectrogram(sound.samples[0], 44100)
    assert decibels.shape[1] == len(seconds) <= picture.COLUMNS + 2
    assert seconds[-1] == pytest.approx(5_000_000 / 44100, abs=0.1)
    assert below.get_xlim() == (0, 5_000_000 / 44100)


def test_matplotlib_s_own_errors_are_ours(clip, tmp_path, monkeypatch):
    from matplotlib.figure import Figure

    def fail(*_, **__):
        raise ValueError("\n$5\n   ^\nParseException: Expected end of text")

    monkeypatch.setattr(Figure, "savefig", fail)
    with pytest.raises(FileError, match=r"a\.png cannot be drawn: \$5 \^ ParseException: Expected end of text"):
        plot(clip, tmp_path / "a.png")


def test_a_picture_that_fails_leaves_the_clip(miniature, tmp_path, monkeypatch):
    from matplotlib.figure import Figure
    from typer.testing import CliRunner

    from sao_onnx.cli import app

    def fail(*_, **__):
        raise RuntimeError("no font")

    monkeypatch.setattr(Figure, "savefig", fail)
    where = ["-o", str(tmp_path / "a.wav"), "--plot", str(tmp_path / "a.png")]
    done = CliRunner().invoke(app, ["gen", "for 5$", "-m", str(miniature), "--seconds", "0.2", "--steps", "1", *where])
    assert done.exit_code == 1
    assert "a.png cannot be drawn: no font" in done.output
    assert "Traceback" not in done.output
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]


def test_a_spectrogram_shows_the_tone():
    tone = np.sin(2 * np.pi * 1000 * np.arange(44100) / 44100).astype(np.float32)
    decibels, seconds, hertz = spectrogram(tone, 44100)
    assert decibels.shape == (len(hertz), len(seconds))
    assert decibels.max() == 0
    middle = decibels[:, np.searchsorted(seconds, 0.5)]
    assert abs(hertz[middle.argmax()] - 1000) < 22
    assert middle[np.searchsorted(hertz, 5000)] < -80


def test_unknown_pictures(clip, tmp_path):
    with pytest.raises(RequestError, match=r"known: \.png, \.svg, \.pdf"):
        plot(clip, tmp_path / "clip.gif")


def test_without_matplotlib(clip, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError, match=r"drawing needs matplotlib.*sao-onnx\[plot\]"):
        plot(clip, tmp_path / "clip.png")


def _player(monkeypatch, play):
    module: Any = types.ModuleType("sounddevice")
    module.PortAudioError = type("PortAudioError", (Exception,), {})
    module.play = play
    monkeypatch.setitem(sys.modules, "sounddevice", module)
    return module


def test_playing(clip, monkeypatch):
    from sao_onnx.cli.play import play

    heard = []
    _player(monkeypatch, lambda samples, rate, blocking: heard.append((samples, rate, blocking)))
    play(clip)
    ((samples, rate, blocking),) = heard
    np.testing.assert_array_equal(samples, clip.samples.T)
    assert (rate, blocking) == (44100, True)


def test_without_a_loudspeaker(clip, monkeypatch):
    from sao_onnx.cli.play import play

    def fail(*_, **__):
        raise module.PortAudioError("no device")

    module = _player(monkeypatch, fail)
    with pytest.raises(SaoOnnxError, match="cannot be played: no device"):
        play(clip)


def test_without_sounddevice(clip, monkeypatch):
    from sao_onnx.cli.play import play

    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(MissingExtraError, match=r"playing needs sounddevice.*sao-onnx\[play\]"):
        play(clip)


def test_the_command(miniature, tmp_path, command):
    shared = ("gen", "rain", "--model", miniature, "--seconds", 0.3, "--steps", 1, "-o", "a.wav")
    done = command(*shared, "--plot", "a.png")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    for arguments, message in (
        (("--plot", "a.gif"), "known: .png"),
        (("--plot", "a.png"), "a.png exists"),
        (("--plot", "b.png", "--count", 2), "draws one clip"),
    ):
        refused = command(*shared[:-1], "b.wav", *arguments)
        assert refused.returncode in (1, 2)
        assert message in refused.stderr
    assert not (tmp_path / "b.wav").exists()


def test_an_estimate_can_be_heard(engine, clip):
    estimates = [event.denoised for event in engine.stream("rain", seed=1, steps=3) if isinstance(event, Sampled)]
    whole = engine.decode(estimates[-1])
    assert whole.shape == (2, engine.manifest.audio.window)
    assert whole.dtype == np.float32
    start = engine.decode(estimates[-1], seconds=0.5)
    np.testing.assert_allclose(start, whole[:, :22050], atol=1e-6)
    assert not np.allclose(engine.decode(estimates[0], 0.5), start)
    for bad in (estimates[0][None], estimates[0][:3], estimates[0][:, :0]):
        with pytest.raises(RequestError, match="latents have shape"):
            engine.decode(bad)
    with pytest.raises(RequestError, match="seconds is 0"):
        engine.decode(estimates[0], 0)


def test_an_interrupted_preview_leaves_nothing(miniature, tmp_path, monkeypatch):
    """It is written where Ctrl-C is heard: the thread behind it ends in the middle of anything."""
    import threading

    from typer.testing import CliRunner

    from sao_onnx.audio import files
    from sao_onnx.cli import app

    writers: dict[str, set[threading.Thread]] = {}
    write = files.write_audio

    def note(path, data, **options):
        writers.setdefault(path.name, set()).add(threading.current_thread())
        write(path, data, **options)

    monkeypatch.setattr(files, "write_audio", note)
    shared = ["gen", "rain", "-m", str(miniature), "--seconds", "0.2", "--steps", "5"]
    done = CliRunner().invoke(app, [*shared, "-o", str(tmp_path / "a.wav"), "--preview", str(tmp_path / "sofar.wav")])
    assert done.exit_code == 0, done.output
    assert writers["sofar.wav"] == {threading.main_thread()}


def test_a_preview(miniature, tmp_path, command):
    import soundfile

    shared = ("gen", "rain", "--model", miniature, "--steps", 3, "--seed", 1)
    done = command(*shared, "-o", "a.wav", "--preview", "so far.wav")
    assert done.returncode == 0, done.stderr
    heard, rate = soundfile.read(tmp_path / "so far.wav")
    assert len(heard) == 2 * rate
    plain = command(*shared, "-o", "b.wav")
    assert plain.returncode == 0
    assert (tmp_path / "a.wav").read_bytes() == (tmp_path / "b.wav").read_bytes()
    refused = command(*shared, "-o", "c.wav", "--preview", "so far.wav")
    assert refused.returncode == 1
    assert "so far.wav exists" in refused.stderr
