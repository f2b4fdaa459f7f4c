"""The files that run the server as a service."""

from __future__ import annotations

import shlex
import shutil

import pytest

from tests.conftest import ROOT
from tests.processes import run

UNIT = ROOT / "engine" / "server" / "sao-onnx.service"
COMPOSE = ROOT / "engine" / "server" / "compose.yaml"

DROPS_CAPABILITIES = {
    *("AmbientCapabilities", "CapabilityBoundingSet", "PrivateDevices"),
    *("ProtectClock", "ProtectKernelLogs", "ProtectKernelModules"),
}
"""What a user's service manager may not do: the service would end with 218/CAPABILITIES."""


def directives() -> list[tuple[str, str]]:
    lines = UNIT.read_text(encoding="utf-8").splitlines()
    return [(name, value) for name, _, value in (line.partition("=") for line in lines if line[:1].isalpha())]


def test_the_unit_is_valid(tmp_path):
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not installed")
    program = tmp_path / ".local" / "bin" / "sao-onnx"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    environment = {"HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path), "PATH": "/usr/bin:/bin"}
    done = run([analyze, "verify", "--user", UNIT], env=environment)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_unit_says_nothing_that_a_users_service_may_not():
    names = {name for name, _ in directives()}
    assert not names & DROPS_CAPABILITIES
    # soundfile's callbacks are written and executed, and the memory of the machine is read in /proc.
    assert not names & {"MemoryDenyWriteExecute", "ProcSubset"}
    assert {"NoNewPrivileges", "ProtectSystem", "RestrictAddressFamilies", "SystemCallFilter"} <= names


@pytest.mark.parametrize("place", ["unit", "compose", "Containerfile"])
def test_what_they_run_is_a_command_of_ours(monkeypatch, place):
    from sao_onnx.cli import serve as serve_module
    from sao_onnx.cli.commands import app

    pytest.importorskip("starlette", reason="the extra `serve` is not installed")
    if place == "unit":
        words = shlex.split(dict(directives())["ExecStart"])[1:]
    elif place == "compose":
        [line] = [line for line in COMPOSE.read_text(encoding="utf-8").splitlines() if line.strip().startswith("command:")]
        words = [word.strip() for word in line.partition("[")[2].rstrip("]").split(",")]
    else:
        lines = (ROOT / "Containerfile").read_text(encoding="utf-8").splitlines()
        [line] = [line for line in lines if " serve " in line]
        words = shlex.split(line.partition(" sao-onnx ")[2])
    found = []
    monkeypatch.setattr(serve_module, "_run", lambda *what: found.append(what))
    assert not app(words, standalone_mode=False)
    [(settings, host, port)] = found
    assert port == 8005
    assert host == ("127.0.0.1" if place == "unit" else "0.0.0.0")
    assert "localhost" in settings.hosts
