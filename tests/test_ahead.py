"""The denoiser is opened while the conditioner works, where there is plenty of memory; nobody notices anything else of it."""

from __future__ import annotations

import itertools
import sys
import threading
from dataclasses import replace

import numpy as np
import pytest

import sao_onnx
from sao_onnx.bundle.bundle import open_bundle
from sao_onnx.errors import BundleError, NotEnoughMemoryError, NumericalError
from sao_onnx.events import Conditioned, Sampled
from sao_onnx.running import loading, stages
from sao_onnx.runtime import machine, memory
from sao_onnx.runtime.memory import PROCESS, estimate_peak, fits, fits_ahead
from sao_onnx.stages.conditioning import Conditioner
from tests.conftest import ROOT
from tests.processes import GUARD, run
from tests.recordings import tones

OPTIONS = {"seconds": 1, "steps": 3, "seed": 1}


@pytest.fixture(params=[True, False], ids=["ahead", "in turn"])
def ahead(request, monkeypatch):
    """With and without the memory for it."""
    monkeypatch.setattr(stages, "fits_ahead", lambda *arguments: request.param)
    return request.param


def _engine(miniature, *, keep=False):
    return sao_onnx.load(miniature, precision="fp32", threads=1, keep_loaded=keep)


def _watched(monkeypatch):
    """What happens in which order."""
    done = []
    for name in ("conditioner", "denoiser", "decoder", "encoder"):
        load = getattr(stages, f"load_{name}")

        def watched(*arguments, name=name, load=load):
            done.append(name)
            return load(*arguments)

        monkeypatch.setattr(stages, f"load_{name}", watched)
    return done


def _opening_threads():
    return [thread for thread in threading.enumerate() if thread.name == "sao-onnx-load"]


def test_the_denoiser_is_opened_while_the_text_is_read(miniature, monkeypatch):
    monkeypatch.setattr(stages, "fits_ahead", lambda *arguments: True)
    expected = _engine(miniature).generate("rain", **OPTIONS)
    begun, read = threading.Event(), threading.Event()
    load, call = loading.load_denoiser, Conditioner.__call__

    def slow(*arguments):
        begun.set()
        assert read.wait(GUARD)  # It is opened only when the text has been read.
        return load(*arguments)

    def conditioned(self, *arguments):
        assert begun.wait(GUARD)
        result = call(self, *arguments)
        read.set()
        return result

    monkeypatch.setattr(stages, "load_denoiser", slow)
    monkeypatch.setattr(Conditioner, "__call__", conditioned)
    clip = _engine(miniature).generate("rain", **OPTIONS)
    np.testing.assert_array_equal(clip.samples, expected.samples)


def test_without_the_memory_one_stage_follows_the_other(miniature, monkeypatch):
    monkeypatch.setattr(stages, "fits_ahead", lambda *arguments: False)
    load = loading.load_denoiser
    engine = _engine(miniature)

    def alone(*arguments):
        assert threading.current_thread() is threading.main_thread()
        assert not engine._stages.conditioner.loaded
        return load(*arguments)

    monkeypatch.setattr(stages, "load_denoiser", alone)
    engine.generate("rain", **OPTIONS)


@pytest.mark.parametrize(
    "options",
    [
        OPTIONS,
        {**OPTIONS, "cfg_scale": 2, "negative_prompt": "wind"},
        {"init_audio": tones(2.0), "extend": 3, "steps": 2, "seed": 1},
    ],
    ids=["plain", "guided", "extension"],
)
def test_samples_and_fractions_are_the_same(miniature, monkeypatch, options):
    found = []
    for plenty in (True, False):
        monkeypatch.setattr(stages, "fits_ahead", lambda *arguments, plenty=plenty: plenty)
        *events, last = _engine(miniature).stream("rain", **{"seed": 1} | options)
        fractions = [event.fraction for event in events]
        assert all(before < after for before, after in itertools.pairwise(fractions))
        assert fractions[-1] == pytest.approx(1)
        found.append((last.clip.samples, [event.fraction for event in events if isinstance(event, Sampled)]))
    np.testing.assert_array_equal(found[0][0], found[1][0])
    # What is opened ahead counts a little earlier, and once.
    assert found[0][1] == pytest.approx(found[1][1])


@pytest.mark.parametrize("keep", [True, False])
def test_with_a_limit_on_the_address_space_no_thread_is_started(miniature, monkeypatch, keep):
    """Each would reserve some of it."""
    monkeypatch.setattr("sao_onnx.runtime.usage.limit", lambda name: 10**12)
    monkeypatch.setattr(stages, "fits_ahead", lambda *arguments: True)
    graph, opened = loading._graph, []

    def watched(bundle, role, *arguments, **options):
        assert threading.current_thread() is threading.main_thread()
        opened.append(role)
        return graph(bundle, role, *arguments, **options)

    monkeypatch.setattr(loading, "_graph", watched)
    _engine(miniature, keep=keep).generate("rain", **OPTIONS)
    assert opened[:4] == ["text_encoder", "number_conditioner", "context", "dit"]


def test_nothing_is_opened_between_two_events(miniature, ahead):
    engine = _engine(miniature)
    for event in engine.stream("rain", **OPTIONS):
        assert not _opening_threads()
        if isinstance(event, Conditioned):
            assert engine._stages.denoiser.loaded is ahead


@pytest.mark.parametrize("keep", [True, False])
def test_a_closed_stream_leaves_nothing(miniature, ahead, keep):
    engine = _engine(miniature, keep=keep)
    events = engine.stream("rain", **OPTIONS)
    next(events)
    engine.unload()
    events.close()
    assert not engine._stages.denoiser.loaded
    assert not _opening_threads()
    engine.generate("rain", **OPTIONS)


@pytest.mark.parametrize("error", [BundleError("dit.onnx is damaged"), NotEnoughMemoryError("not enough memory to load dit")])
def test_an_error_of_opening_is_the_same(miniature, monkeypatch, ahead, error):
    def fail(*arguments):
        raise error

    monkeypatch.setattr(stages, "load_denoiser", fail)
    engine = _engine(miniature)
    with pytest.raises(type(error), match=str(error)) as raised:
        engine.generate("rain", **OPTIONS)
    assert raised.value is error
    assert not engine._stages.conditioner.loaded


def test_too_little_memory_ahead_is_enough_in_turn(miniature, monkeypatch):
    monkeypatch.setattr(stages, "fits_ahead", lambda *arguments: True)
    load = loading.load_denoiser

    def fail_ahead(*arguments):
        if threading.current_thread() is not threading.main_thread():
            raise NotEnoughMemoryError("not enough memory beside the text encoder")
        return load(*arguments)

    monkeypatch.setattr(stages, "load_denoiser", fail_ahead)
    assert _engine(miniature).generate("rain", **OPTIONS).seconds == 1


def test_an_error_of_the_text_lets_go_of_what_was_opened(miniature, monkeypatch, ahead):
    def fail(self, *arguments):
        raise NumericalError("text_encoder returned NaN")

    engine = _engine(miniature)
    monkeypatch.setattr(Conditioner, "__call__", fail)
    with pytest.raises(NumericalError, match="text_encoder returned NaN"):
        engine.generate("rain", **OPTIONS)
    assert not engine._stages.denoiser.loaded
    assert not _opening_threads()


def test_a_warning_of_opening_reaches_the_caller(miniature, monkeypatch, ahead):
    graph = loading._graph

    def warned(bundle, role, *arguments, **options):
        if role in ("dit", "number_conditioner"):
            sao_onnx.warn.warn(f"{role} is old", sao_onnx.SaoOnnxWarning)
        return graph(bundle, role, *arguments, **options)

    monkeypatch.setattr(loading, "_graph", warned)
    with pytest.warns(sao_onnx.SaoOnnxWarning) as seen:
        _engine(miniature).generate("rain", **OPTIONS)
    assert sorted((str(one.message), one.filename) for one in seen) == [
        ("dit is old", __file__),
        ("number_conditioner is old", __file__),
    ]


def test_initial_audio_is_encoded_before_the_denoiser_is_opened(miniature, monkeypatch):
    monkeypatch.setattr(stages, "fits_ahead", lambda *arguments: True)
    done = _watched(monkeypatch)
    _engine(miniature).generate("rain", **OPTIONS, init_audio=tones(1.0))
    assert done == ["conditioner", "encoder", "denoiser", "decoder"]


def test_several_threads_share_what_is_opened_ahead(miniature, monkeypatch):
    done = _watched(monkeypatch)
    engine = _engine(miniature, keep=True)
    expected = _engine(miniature).generate("rain", **OPTIONS).samples
    done.clear()
    for clip in engine.generate_many(["rain"] * 4, jobs=4, seconds=1, steps=3):
        assert clip.seconds == 1
    assert sorted(done) == ["conditioner", "decoder", "denoiser"]
    np.testing.assert_array_equal(engine.generate("rain", **OPTIONS).samples, expected)
    assert len(done) == 3


def _with_reachable(monkeypatch, reachable):
    found = replace(machine.describe_machine(), available=reachable, swap=0, used=0)
    monkeypatch.setattr(memory, "describe_machine", lambda: found)


def test_what_is_plenty_of_memory(miniature, monkeypatch):
    bundle, million = open_bundle(miniature), 1_000_000
    tuning = _engine(miniature).tuning
    weights = {"conditioner": 100 * million, "denoiser": 300 * million, "decoder": 50 * million, "encoder": 0}
    monkeypatch.setattr("sao_onnx.bundle.bundle.Bundle.stage_weight", lambda self, stage, precision: weights[stage])
    monkeypatch.setattr(memory, "DENOISER_ACTIVATIONS", 0)
    monkeypatch.setattr(memory, "DECODER_ACTIVATIONS", (0, 0))
    assert estimate_peak(bundle, "fp32") == PROCESS + 300 * million
    assert estimate_peak(bundle, "fp32", ahead=True) == PROCESS + 400 * million
    _with_reachable(monkeypatch, PROCESS + 400 * million)
    assert fits(bundle, "fp32", ahead=True)
    assert not fits(bundle, "fp32", keep_loaded=True)
    assert not fits_ahead(bundle, "fp32", tuning)
    _with_reachable(monkeypatch, 2 * (PROCESS + 400 * million))
    assert fits_ahead(bundle, "fp32", tuning)
    _with_reachable(monkeypatch, None)
    assert fits(bundle, "fp32")
    assert not fits_ahead(bundle, "fp32", tuning)


PROGRAM = """
import sys
import sao_onnx.running.stages as stages, sao_onnx.runtime.memory as memory
from dataclasses import replace
little = sys.argv.pop(1) == "little"
if little:
    describe = memory.describe_machine
    memory.describe_machine = lambda: replace(describe(), used=0, available=99_000_000 + memory.PROCESS, swap=0)
    memory.estimate_peak = lambda *a, keep_loaded=False, **k: memory.PROCESS + (10**9 if keep_loaded else 1)
for name in ("conditioner", "denoiser", "decoder"):
    def load(*a, name=name, load=getattr(stages, "load_" + name)):
        sys.stderr.write(f"<{name}>")
        return load(*a)
    setattr(stages, "load_" + name, load)
import atexit
atexit.register(lambda: sys.stderr.write("<end>"))
sys.argv[0] = "sao-onnx"
from sao_onnx.cli import program
program()
"""


@pytest.mark.parametrize(("memory_is", "times"), [("enough", 1), ("little", 3)])
def test_several_clips_load_no_stage_twice_where_memory_permits(miniature, tmp_path, memory_is, times):
    command = [sys.executable, "-c", PROGRAM, memory_is, "gen", "rain", "-m", miniature, "--seconds", "0.5", "--steps", "1"]
    done = run([*command, "--count", "3", "--seed", "1", "-o", "{seed}.wav", "-q"], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["1.wav", "2.wav", "3.wav"]
    assert [done.stderr.count(f"<{name}>") for name in ("conditioner", "denoiser", "decoder")] == [times] * 3
    # The process ends without being taken apart, but with all that was registered for its end.
    assert done.stderr.endswith("<end>")


@pytest.mark.parametrize(("model", "code"), [("missing", 3), (str(ROOT), 3)])
def test_a_failed_command_ends_with_its_code(tmp_path, model, code):
    done = run([sys.executable, "-c", PROGRAM, "enough", "gen", "rain", "-m", model], cwd=tmp_path)
    assert done.returncode == code
    assert "error: " in done.stderr
    assert done.stderr.endswith("<end>")


LEFT = """
import atexit, sys, threading, time
import sao_onnx.cli.commands as commands

def run():
    # Inside of a graph that takes its time, when the server has waited long enough.
    threading.Thread(target=lambda: (time.sleep(3), sys.stderr.write("<late>"))).start()
    return 0

commands.run = run
atexit.register(lambda: sys.stderr.write("<end>"))
from sao_onnx.cli import program
program()
"""


@pytest.mark.parametrize("command", ["serve", "mcp"])
def test_a_server_waits_for_no_graph_that_still_runs(command):
    done = run([sys.executable, "-c", LEFT, command])
    assert (done.returncode, done.stderr) == (0, "<end>")
