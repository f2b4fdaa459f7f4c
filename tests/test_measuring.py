"""`sao-onnx bench`: what is counted, what is read of the machine, and what is said of it. No test looks at a time."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from sao_onnx.bundle.bundle import open_bundle
from sao_onnx.cli import app
from sao_onnx.measuring import advice as checks
from sao_onnx.measuring import board
from sao_onnx.measuring.advice import advice
from sao_onnx.measuring.board import Moment, Settings
from sao_onnx.measuring.measure import PARTS, Begun, measure
from sao_onnx.measuring.operations import Operations, clip_operations, node_operations
from sao_onnx.measuring.rates import Rates, measured, shortest
from sao_onnx.measuring.report import Clip, Hardware, Load, Model, Report, Software, Stage
from sao_onnx.runtime.large_matmul import ROWS, large_matmul
from sao_onnx.runtime.sessions import SessionFactory
from tests.conftest import MINIATURE, ROOT
from tests.processes import COMMAND, GUARD, started

SOUND = Report(
    1,
    Software("0", "3", "1.32.0", "", "dot product instructions (asimddp)", False, "neon-dot"),
    Hardware("Linux", "aarch64", "a board", ("asimddp",), 4, 8 * 10**9, 7 * 10**9),
    Settings(4, None, None, ("ondemand",), (2400.0,)),
    Load(0.1, 0.05, 0.0, 0, 0),
    Rates(1e11, 3.5e11, 3e10, 1e11, 1e10),
    Model("f", 11.9, "int8", "int8", 340_000_000, 4, 4, False, Operations(0, 0, 160 * 10**9, 8, 1300 * 10**9)),
    (Stage("text", "", 1.0, 0.1), Stage("dit", "", 1.0, 0.7), Stage("decoder", "", 1.0, 1.5)),
    Clip(10.0, 3.0, True, 0.1, 5.0, 4.9),
    (Moment("", 0.0, 50.0, (1500.0,), 0), Moment("a", 1.0, 60.0, (2400.0,), 0), Moment("b", 2.0, 65.0, (2400.0,), 0)),
)
"""A board with which nothing is wrong."""


def _moments(**changes):
    first, *others = SOUND.moments
    return replace(SOUND, moments=(first, *(replace(moment, **changes) for moment in others)))


WRONG = {
    "under_voltage": (_moments(throttled=0x10000), "supply"),
    "throttled": (_moments(throttled=0x4), "during the measurement"),
    "hot": (_moments(temperature=83.0), "83 °C"),
    "governor": (_moments(clocks=(1500.0,)), "62% of the highest"),
    "slowed": (
        replace(_moments(clocks=(1500.0,)), settings=replace(SOUND.settings, governors=("performance",))),
        "though the governor is performance",
    ),
    "fewer_processors": (
        replace(SOUND, settings=replace(SOUND.settings, cpu_limit=4.0, present=8)),
        "4 of 8 processors may be used, because of a control group",
    ),
    "fewer_threads": (replace(SOUND, model=replace(SOUND.model, threads=2)), "2 threads on 4 processors"),
    "others_work": (replace(SOUND, load=replace(SOUND.load, others=1.5)), "used 1.5 processors"),
    "stolen": (replace(SOUND, load=replace(SOUND.load, stolen=0.7)), "0.7 of its processors"),
    "swapped": (replace(SOUND, load=replace(SOUND.load, swapped=50_000_000)), "50 MB"),
    "no_dot_products": (
        replace(SOUND, software=replace(SOUND.software, int8_products="16-bit multiplication (asimd)")),
        "no instructions",
    ),
    "int8_gains_little": (replace(SOUND, rates=replace(SOUND.rates, fp32_one=7e10)), "1.4 times"),
    "threads_hinder": (replace(SOUND, rates=replace(SOUND.rates, int8_one=3e11)), "4 threads are only 1.2 times"),
    "memory_bound": (replace(SOUND, rates=replace(SOUND.rates, copy=1e9)), "49% of a step"),
    "low_share": (replace(SOUND, clip=replace(SOUND.clip, seconds=20.0)), "37% of what"),
}


def test_nothing_is_said_of_a_sound_board():
    assert advice(SOUND) == {}
    assert {check.__name__ for check in checks.CHECKS} == WRONG.keys()


@pytest.mark.parametrize("name", WRONG)
def test_each_fault_is_told_alone(name):
    report, words = WRONG[name]
    assert list(advice(report)) == [name]
    assert words in advice(report)[name]


def test_what_is_no_fault():
    """The firmware's past is told as past; threads may be fewer beside others; a small model has no share; much is unknown."""
    assert "since the board was started" in advice(_moments(throttled=0x40000))["throttled"]
    assert "others_work" not in advice(replace(WRONG["fewer_threads"][0], load=replace(SOUND.load, others=1.5)))
    small = replace(SOUND, model=replace(SOUND.model, operations=Operations(0, 0, 10**9, 8, 10**9)))
    assert advice(small) == {}
    unknown = replace(
        SOUND,
        settings=Settings(None, None, None, (), ()),
        load=Load(None, None, None, 0, None),
        moments=(Moment("", 0.0, None, (), None),) * 2,
        software=replace(SOUND.software, int8_products=None),
    )
    assert advice(unknown) == {}


@pytest.fixture
def root(tmp_path):
    """A Raspberry Pi's files."""
    files = {
        "proc/stat": "cpu  100 20 30 4000 50 6 7 80 0 0\ncpu0 1 2\ncpu1 1 2\nintr 5\n",
        "proc/vmstat": "pgpgin 9\npswpin 3\npswpout 4\n",
        "proc/loadavg": "1.25 0.5 0.1 1/100 7\n",
        "proc/meminfo": "MemTotal: 8 kB\nSwapTotal:  100 kB\nSwapFree:  40 kB\n",
        "sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
        "sys/class/thermal/thermal_zone0/temp": "61234\n",
        "sys/class/thermal/thermal_zone1/type": "wifi\n",
        "sys/class/thermal/thermal_zone1/temp": "90000\n",
    }
    for number, clock in ((0, 600000), (10, 2300000), (2, 1500000)):
        folder = f"sys/devices/system/cpu/cpufreq/policy{number}"
        values = {"scaling_governor": "ondemand", "scaling_cur_freq": clock, "cpuinfo_max_freq": 2400000}
        files |= {f"{folder}/{name}": f"{value}\n" for name, value in values.items()}
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def test_what_the_kernel_tells(root):
    found = board.settings(root)
    assert (found.present, found.governors, found.fastest) == (2, ("ondemand",), (2400.0,) * 3)
    now = board.moment("a", 2.0, root, lambda: "throttled=0x50005\n")
    assert now == Moment("a", 2.0, 61.234, (600.0, 1500.0, 2300.0), 0x50005)
    assert board.usage(root) == board.Usage(1.63, 0.8, 7 * 4096)
    assert board.load_average(root) == 1.25
    assert board.swap_used(root) == 60 * 1024


def test_a_kernel_that_tells_nothing(tmp_path):
    assert board.moment("", 0.0, tmp_path, lambda: "VCHI initialization failed") == Moment("", 0.0, None, (), None)
    assert (board.usage(tmp_path), board.load_average(tmp_path), board.swap_used(tmp_path)) == (None, None, 0)
    assert board.settings(tmp_path).present is None


def test_the_shortest_time_counts():
    now = iter([0.0, 5.0, 5.0, 7.0, 7.0, 11.0])
    ran: list[int] = []
    assert shortest(lambda: ran.append(1), spent=10.0, clock=lambda: next(now)) == 2.0
    assert len(ran) == 4  # The first is for warming up.


@pytest.mark.parametrize("precision", ["int8", "fp32"])
def test_the_large_matmul_is_one(precision):
    model, inputs = large_matmul(precision)
    assert len(inputs["a"]) == ROWS
    (largest,) = SessionFactory(2).own_session(model).run(None, inputs)
    assert largest.shape == ()
    assert np.isfinite(largest)
    assert largest > 0


def test_operations_of_nodes():
    assert node_operations("MatMul", [(1, 5, 3), (3, 7)], (1, 5, 7)) == 2 * 5 * 3 * 7
    assert node_operations("FusedMatMul", [(1, 3, 5), (3, 7)], (1, 5, 7)) == 2 * 5 * 3 * 7
    assert node_operations("Conv", [(1, 4, 10), (6, 4, 7)], (1, 6, 10)) == 2 * 6 * 10 * 4 * 7
    assert node_operations("Sin", [(5,)], (5,)) == 0


def test_the_graphs_take_what_the_configuration_says():
    from bench.operations import configured_operations

    model, t5 = (json.loads((MINIATURE / name).read_text()) for name in ("model_config.json", "t5_config.json"))
    bundle = open_bundle(MINIATURE / "bundle")
    assert clip_operations(bundle, "fp32", "fp32", tokens=10) == configured_operations(model, t5, 10)


def test_the_page_of_boards_has_its_tables():
    from bench.operations import PAGE, released, with_tables

    page = PAGE.read_text(encoding="utf-8")
    assert page == with_tables(page, released())
    assert "| Raspberry Pi 5 |" in page


def test_a_measurement(miniature, root):
    *begun, report = measure(miniature, spent=0.0, root=root)
    assert isinstance(report, Report)
    parts = PARTS if report.hardware.usable > 1 else PARTS - 2
    assert [part.index for part in begun if isinstance(part, Begun)] == list(range(parts))
    assert [stage.name for stage in report.stages] == ["text", "dit", "decoder"]
    assert report.clip.measured
    assert not report.telling
    assert len(report.moments) == parts + 1
    text = report.to_json(advice(report))
    assert json.loads(text)["format"] == 1
    for private in (socket.gethostname(), str(miniature), os.sep + "home", str(root)):
        assert len(private) < 4 or private not in text


def test_one_processor_is_measured_once():
    *names, rates = measured(1, 10**6, spent=0.0)
    assert names == ["int8 matmul, 1 thread", "fp32 matmul, 1 thread", "memory"]
    assert isinstance(rates, Rates)
    assert (rates.int8_all, rates.fp32_all) == (rates.int8_one, rates.fp32_one)


def test_a_clip_for_which_there_is_no_time(miniature, root):
    *_, report = measure(miniature, budget=0.0, spent=0.0, root=root)
    assert isinstance(report, Report)
    assert not report.clip.measured
    assert report.clip.seconds >= report.clip.sampling > 0


@pytest.fixture
def bench(miniature, tmp_path, monkeypatch):
    """The command in an empty folder, on a board whose measurement is already there."""
    monkeypatch.chdir(tmp_path)

    def run(*words, report=SOUND, meanwhile=lambda: None):
        def measured(folder):
            yield Begun("clip", 0)
            meanwhile()
            yield report

        monkeypatch.setattr("sao_onnx.measuring.measure.measure", measured)
        return CliRunner().invoke(app, ["bench", "-m", str(miniature), *words])

    return run


@pytest.mark.parametrize(
    ("file", "code", "message"),
    [
        ("none/board.json", 1, "error: the folder none does not exist; create it first"),
        (".", 1, "error: . is a folder; give a file name"),
        ("s3:b", 2, "error: s3:b looks like the address s3://b, expected a file on this machine"),
        ("s3://b/board.json", 2, "error: s3://b/board.json is an address, expected a file on this machine"),
        ("-", 2, "- is no file; --json prints the figures"),
        ("", 2, "--report is empty"),
    ],
)
def test_files_that_the_figures_cannot_go_to(bench, tmp_path, file, code, message):
    def meanwhile():
        raise AssertionError("it is told before the work")

    done = bench("--report", file, meanwhile=meanwhile)
    assert done.exit_code == code
    assert message in done.output
    assert os.listdir(tmp_path) == []


def test_figures_go_to_the_home_folder(bench, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert bench("--report=~/board.json").exit_code == 0
    assert os.listdir(tmp_path) == ["board.json"]


def test_figures_are_printed_where_their_file_fails(bench, tmp_path):
    """Nobody waits two minutes for nothing, because another program was faster with the name."""
    done = bench("--report", "board.json", meanwhile=lambda: (tmp_path / "board.json").write_text("other"))
    assert done.exit_code == 1
    assert "share  " in done.stdout
    assert "board.json exists" in done.stderr
    assert (tmp_path / "board.json").read_text() == "other"


def test_one_processor_in_words(bench):
    one = replace(SOUND, hardware=replace(SOUND.hardware, usable=1), model=replace(SOUND.model, threads=1, workers=1))
    assert "threads       1 on 1 processor, 1 decoder tile at a time\n" in bench(report=one).stdout


@pytest.mark.skipif(sys.platform == "win32", reason="interrupts are sent to a group there")
@pytest.mark.parametrize("part", ["int8 matmul, 1 thread", "decoder"])
def test_an_interrupted_measurement_leaves_no_file(miniature, tmp_path, part):
    words = [COMMAND, "bench", "-m", miniature, "--report", "board.json"]
    with started(words, cwd=tmp_path, stdout=-1, stderr=-1, text=True) as process:
        assert process.stderr is not None
        assert any(part in line for line in process.stderr)
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=GUARD)
    assert (process.returncode, stdout) == (130, "")
    assert stderr.endswith("interrupted\n")
    assert "Traceback" not in stderr
    assert os.listdir(tmp_path) == []


def test_the_command(command, miniature, tmp_path):
    done = command("bench", "-m", str(miniature), "--report", "board.json", "--quiet")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "share  " in done.stdout
    assert json.loads((tmp_path / "board.json").read_text())["derived"]["operations_of_a_clip"] > 1e9
    assert command("bench", "-m", str(miniature), "--report", "board.json").returncode == 1
    assert (ROOT / "docs" / "measure-your-board.md").exists()
