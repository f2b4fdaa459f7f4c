"""The container file, as far as it can be checked without an engine to build it."""

from __future__ import annotations

import fnmatch
import re
import shutil
import sys
import tomllib
import zipfile

from tests.conftest import ROOT
from tests.processes import succeed

LINES = [
    line for line in (ROOT / "Containerfile").read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")
]


def _all(instruction: str) -> list[str]:
    return [line.split(maxsplit=1)[1] for line in LINES if line.startswith(f"{instruction} ")]


def test_bases_are_slim_and_of_one_release():
    bases = {line.split()[0] for line in _all("FROM")}
    assert len(bases) == 1
    release = re.search(r"python:(3\.\d+)-slim-", bases.pop())
    assert release is not None
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    oldest = project["requires-python"].removeprefix(">=")
    assert tuple(map(int, release[1].split("."))) >= tuple(map(int, oldest.split(".")))


def test_what_is_copied_is_there_and_not_ignored():
    rules = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    assert rules[0] == "*"
    allowed = {rule[1:] for rule in rules if rule.startswith("!")}
    copied = {source for line in _all("COPY") for source in line.split()[:-1]}
    assert copied == allowed
    for source in copied:
        assert (ROOT / source).exists(), source
    assert not any(fnmatch.fnmatch("models/stable-audio-open-small", name) for name in copied)


def test_the_wheel_can_be_built_of_what_is_copied(tmp_path):
    for line in _all("COPY"):
        *sources, target = line.split()
        for source in sources:
            place = tmp_path / target.removeprefix("/source").strip("/")
            place.mkdir(exist_ok=True, parents=True)
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, place, dirs_exist_ok=True)
            else:
                shutil.copy(ROOT / source, place)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path / "wheels"), str(tmp_path)]
    succeed(command)
    [wheel] = (tmp_path / "wheels").glob("*.whl")
    assert "sao_onnx/cli/__init__.py" in zipfile.ZipFile(wheel).namelist()


def test_it_runs_as_an_ordinary_user():
    [user] = _all("USER")
    assert int(user) >= 1000
    assert LINES.index(f"USER {user}") > max(LINES.index(line) for line in LINES if line.startswith("RUN"))
    assert _all("ENTRYPOINT") == ['["sao-onnx"]']
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]
    assert "sao-onnx" in scripts
