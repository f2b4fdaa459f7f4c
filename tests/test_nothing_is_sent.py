"""Nothing is sent anywhere, and nothing is left but what was asked for and this project's own caches."""

from __future__ import annotations

import contextlib
import subprocess
import sys

import pytest

from tests.processes import COMMAND, GUARD, wait_until
from tests.watch import watch, watched

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="programs are watched by the means of Linux")

CHECKED = "state/sao-onnx/checked"
"""Which files of bundles were found to be undamaged."""

# Both live until their stdin is closed.
ENGINE = """
import sys, sao_onnx
sao_onnx.load(sys.argv[1]).generate("rain", seconds=0.2, steps=1, seed=1)
print("ready", flush=True)
sys.stdin.read()
"""
BARE = "import sys, onnxruntime; print('ready', flush=True); sys.stdin.read()"


def _line(program):
    """The next line that a program writes."""
    return program.process.stdout.readline()


@pytest.fixture(scope="module", autouse=True)
def living(miniature, tmp_path_factory):
    """A process with our engine and one with ONNX Runtime alone. They live while the other tests run."""
    root = tmp_path_factory.mktemp("living")
    with contextlib.ExitStack() as stack:
        engine = stack.enter_context(watched(root / "engine", [sys.executable, "-c", ENGINE, miniature], stdin=subprocess.PIPE))
        assert _line(engine) == "ready\n"
        bare = stack.enter_context(watched(root / "bare", [sys.executable, "-c", BARE], stdin=subprocess.PIPE))
        assert _line(bare) == "ready\n"
        yield engine, bare


def test_the_watch_sees(tmp_path):
    """Whoever tries to reach anybody is seen, and so is what is left behind."""
    script = (
        "import os, socket, tempfile\n"
        "for family, address in ((socket.AF_INET, '203.0.113.1'), (socket.AF_INET6, '2001:db8::1')):\n"
        "    with socket.socket(family, socket.SOCK_DGRAM) as one:\n"
        "        try: one.sendto(b'x', (address, 9))\n"
        "        except OSError: pass\n"
        "tempfile.mkdtemp(prefix='mine')\n"
        "open(os.path.expanduser('~/.mine'), 'w').close()\n"
    )
    seen = watch(tmp_path / "root", [sys.executable, "-c", script])
    assert seen.reached_out()
    assert seen.reached_out(may_listen=True)
    assert {name[:8] for name in seen.left()} == {"tmp/mine", "home/.mi"}


@pytest.mark.parametrize(
    ("arguments", "left"),
    [
        (("gen", "rain", "--seconds", "0.3", "-o", "a.wav"), {"work/a.wav"}),
        (("gen", "rain", "--seconds", "0.3", "-o", "a.flac", "--json"), {"work/a.flac", "work/a.json"}),
        (("batch", "list.txt", "--model", "MINIATURE"), {"work/list.txt", "work/001-rain.wav", "work/002-wind.wav"}),
        (("doctor",), set()),
        (("inspect", "MINIATURE"), set()),
        (("verify", "MINIATURE"), set()),
        (("models",), set()),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_commands(miniature, tmp_path, arguments, left):
    root = tmp_path / "root"
    (root / "work").mkdir(parents=True)
    if "list.txt" in arguments:
        (root / "work" / "list.txt").write_text("rain\nwind\n")
    seen = watch(root, [COMMAND, *(miniature if part == "MINIATURE" else part for part in arguments)])
    assert seen.reached_out() == []
    assert seen.left() == left | ({CHECKED} if arguments[0] in {"gen", "batch"} else set())
    assert seen.written_elsewhere() == set()


def test_tune_keeps_what_it_found(miniature, tmp_path):
    seen = watch(tmp_path / "root", [COMMAND, "tune", miniature, "--budget", "1"])
    assert seen.reached_out() == []
    [kept] = seen.left() - {CHECKED}
    assert kept.startswith("state/sao-onnx/tuning/")
    assert seen.written_elsewhere() == set()


def test_pictures_keep_their_fonts_with_us(miniature, tmp_path):
    seen = watch(tmp_path / "root", [COMMAND, "gen", "rain", "-m", miniature, "-o", "a.wav", "--plot", "a.png"])
    assert seen.reached_out() == []
    ours = {name for name in seen.left() if name.startswith("cache/sao-onnx/")}
    assert seen.left() - ours == {"work/a.wav", "work/a.png", CHECKED}
    assert seen.written_elsewhere() == set()


def test_convert(checkpoint, tmp_path):
    seen = watch(tmp_path / "root", [COMMAND, "convert", checkpoint, "--t5", checkpoint / "t5", "-o", "bundle"])
    assert seen.reached_out(may_listen=True) == []
    assert (seen.folder / "bundle" / "manifest.json").exists()
    assert {name for name in seen.left() if not name.startswith("work/bundle/")} == set()
    assert seen.written_elsewhere() == set()


def test_a_process_that_lives(living):
    """Long enough for ONNX Runtime's telemetry to show itself, which it does in the process without us."""
    engine, bare = living
    if not bare.left():
        pytest.skip("this ONNX Runtime has no telemetry")
    # The one with our engine has lived longer: its turn would have come.
    wait_until(bare.reached_out, bare.process)
    assert engine.process.poll() is None
    assert engine.process.communicate("", timeout=GUARD)[1] == ""
    assert engine.process.returncode == 0
    assert engine.reached_out() == []
    assert engine.left() == {CHECKED}
    assert engine.written_elsewhere() == set()
