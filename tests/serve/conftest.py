"""Servers that tests talk to."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import warnings
from pathlib import Path

import pytest

from sao_onnx.serve.jobs import Jobs
from tests.processes import COMMAND, started, wait_until
from tests.serve.engines import Engine

pytest.importorskip("starlette", reason="the extra `serve` is not installed")
httpx = pytest.importorskip("httpx", reason="the extra `serve` is not installed")
with warnings.catch_warnings():
    # Starlette would rather have a successor of httpx for its test client, which others of our tests do not use.
    warnings.simplefilter("ignore")
    import starlette.testclient  # noqa: F401


def serving(folder: Path, *arguments: object, **environment: str):
    """A server as a process; `address_of` waits until it listens."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("SAO_ONNX")}
    log = (folder / "log").open("w", encoding="utf-8")
    command = [COMMAND, "serve", "--port", "0", *arguments]
    return started(command, cwd=folder, stdout=subprocess.PIPE, stderr=log, text=True, env=inherited | environment)


def address_of(process: subprocess.Popen[str], folder: Path) -> str:
    """Where a server listens, by what it says when it starts."""

    def line() -> re.Match[str] | None:
        return re.search(r"http://\S+", (folder / "log").read_text(encoding="utf-8"))

    wait_until(line, process)
    found = line()
    assert found is not None
    return found[0]


@pytest.fixture(scope="session")
def model(tmp_path_factory, miniature) -> Path:
    """The miniature under its own name. It makes a clip of four seconds in the tenth of one."""
    link: Path = tmp_path_factory.mktemp("models") / "miniature"
    try:
        link.symlink_to(miniature, target_is_directory=True)
    except OSError:  # Not every user of Windows may.
        shutil.copytree(miniature, link)
    return link


@pytest.fixture(scope="session")
def address(tmp_path_factory, model):
    """A server of the miniature, with one thread, so that clips are those of any other server with one."""
    folder = tmp_path_factory.mktemp("server")
    with serving(folder, "--model", model, "--metrics", "--queue", 200, "--threads", 1) as process:
        yield address_of(process, folder)


@pytest.fixture(scope="session")
def client(address):
    with httpx.Client(base_url=address, timeout=120) as made:
        yield made


@pytest.fixture
def made():
    """Makes queues, and ends them."""
    all: list[tuple[Jobs, Engine]] = []

    def make(engine, **options):
        jobs = Jobs(lambda name: engine, **options)
        all.append((jobs, engine))
        return jobs

    yield make
    for jobs, engine in all:
        engine.go.set()
        jobs.close(10)
