"""`sao-onnx convert owner/name` as a process, with a home of its own, against a stand-in for the hub."""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
from pathlib import Path

import pytest

from sao_onnx.bundle.bundle import open_bundle
from tests import processes
from tests.processes import COMMAND, GUARD, interrupt, started, wait_until
from tests.stand_in import StandIn, error, running


@pytest.fixture
def hub(checkpoint):
    """The miniature as two repositories."""
    with running() as stand_in:
        files = {path.name: path.read_bytes() for path in checkpoint.iterdir() if path.is_file()}
        stand_in.add("owner/name", files | {"LICENSE.md": b"Do good."})
        stand_in.add("owner/t5", checkpoint / "t5")
        yield stand_in


def _environment(hub: StandIn, home: Path, **more: str) -> dict[str, str]:
    home.mkdir(exist_ok=True)
    theirs = ("HF_", "HUGGING", "TRANSFORMERS_", "XDG_")
    kept = {name: text for name, text in os.environ.items() if not name.startswith(theirs) and "proxy" not in name.lower()}
    return kept | {"HOME": str(home), "HF_ENDPOINT": hub.url, "COLUMNS": "120"} | more


def _convert(hub: StandIn, folder: Path, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return processes.run(
        [COMMAND, "convert", "owner/name", "--t5", "owner/t5", "-o", "out", *options],
        cwd=folder,
        env=_environment(hub, folder / "home", **environment),
    )


def _error(done: subprocess.CompletedProcess[str]) -> str:
    """The one line that a command failed with."""
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("error: ")
    return done.stderr


def test_the_whole_flow(hub, tmp_path):
    """From two repositories to a bundle: with progress in words, and nothing in the home but the cache."""
    done = _convert(hub, tmp_path, "--precision", "fp32", "-v")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "out\n"
    lines = done.stderr.splitlines()
    assert lines[:3] == [
        "downloading model.safetensors of owner/name",
        "downloading model.safetensors of owner/t5",
        "reading the weights",
    ]
    model = open_bundle(tmp_path / "out").manifest.model
    assert (model.name, model.source, model.revision) == ("name", "owner/name", hub.commit("owner/name"))
    assert (tmp_path / "out" / "LICENSE.md").read_bytes() == b"Do good."
    assert list(open_bundle(tmp_path / "out").verify())
    assert {path.name for path in (tmp_path / "home" / ".cache" / "huggingface").iterdir()} <= {"hub", "xet"}
    assert {request.headers["user-agent"].partition("/")[0] for request in hub.requests} == {"sao-onnx"}
    # Once more, from the cache alone: a graph is reached without a single request.
    hub.requests.clear()
    again = _convert(hub, tmp_path, "--force", "--weights-name", "other.safetensors", HF_HUB_OFFLINE="1")
    assert "other.safetensors of owner/name is not in the download cache" in _error(again)
    with started(
        [COMMAND, "convert", "owner/name", "--t5", "owner/t5", "-o", "again", "-v"],
        cwd=tmp_path,
        env=_environment(hub, tmp_path / "home", HF_HUB_OFFLINE="1"),
        stderr=subprocess.PIPE,
        text=True,
    ) as offline:
        assert offline.stderr is not None
        assert offline.stderr.readline() == "reading the weights\n"
        assert offline.stderr.readline() == "exporting text_encoder\n"
        assert interrupt(offline)[0] == 130
    assert not hub.requests
    assert sorted(os.listdir(tmp_path)) == ["home", "out"]


def test_addresses_are_those_of_the_endpoint(hub, tmp_path):
    hub.intercept = lambda request: (
        error(403, "GatedRepo", "Your request is awaiting a review.") if "resolve" in request.path else None
    )
    line = _error(_convert(hub, tmp_path, HF_TOKEN="hf_abc"))
    assert f"accept its licence at {hub.url}/owner/name with the account of the token in HF_TOKEN" in line
    assert "(403: Your request is awaiting a review)" in line
    assert "huggingface.co" not in line
    assert os.listdir(tmp_path) == ["home"]


@pytest.mark.parametrize("quiet", [True, False])
def test_progress_on_a_terminal(hub, tmp_path, quiet):
    """A bar for what is downloaded, and none with -q; huggingface_hub's own never show."""
    pty = pytest.importorskip("pty")
    broken = hub.repositories["owner/t5"] | {"tokenizer.json": b"{}"}
    hub.add("owner/t5", broken)
    shown = threading.Event()

    def slowly(request):
        """No content comes before the bar is shown."""
        if "/content/" in request.path and request.method == "GET":
            shown.wait(GUARD)

    hub.intercept = slowly
    if quiet:
        shown.set()
    ours, theirs = pty.openpty()
    command = [COMMAND, "convert", "owner/name", "--t5", "owner/t5", "-o", "out", *(["-q"] if quiet else [])]
    environment = _environment(hub, tmp_path / "home") | {"TERM": "xterm"}
    seen = b""
    with started(command, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL, stderr=theirs) as process:
        os.close(theirs)
        with contextlib.suppress(OSError):  # The other end is closed.
            while part := os.read(ours, 65536):
                seen += part
                if b"downloading" in seen:
                    shown.set()
        os.close(ours)
        assert process.wait(timeout=GUARD) == 1
    text = seen.decode()
    assert "tokenizer.json cannot be read" in text
    assert ("downloading" in text) is not quiet
    assert "model.safetensors:" not in text
    if quiet:
        assert text.startswith("error: ")
        assert text.count("\n") == 1


def test_an_interrupted_download_leaves_no_bundle(hub, tmp_path):
    reached = threading.Event()
    release = threading.Event()

    def hang(request):
        if "/content/" in request.path and request.method == "GET":
            reached.set()
            release.wait(GUARD)

    hub.intercept = hang
    command = [COMMAND, "convert", "owner/name", "--t5", "owner/t5", "-o", "out"]
    environment = _environment(hub, tmp_path / "home")
    with started(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True) as process:
        wait_until(reached.is_set, process)
        code, stderr = interrupt(process)
    release.set()
    assert code == 130
    assert stderr.endswith("interrupted\n")
    assert os.listdir(tmp_path) == ["home"]
