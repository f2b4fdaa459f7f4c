"""The workflows as far as they can be checked where they do not run: few rights, fixed actions, commands that exist."""

from __future__ import annotations

import re
import tomllib

import pytest

from tests.conftest import ROOT
from tests.test_project import chores, pythons

yaml = pytest.importorskip("yaml")

FOLDER = ROOT / ".github" / "workflows"
TEXTS = {path.name: path.read_text(encoding="utf-8") for path in sorted(FOLDER.glob("*.yml"))}
PINNED = re.compile(r"[\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+")

every_workflow = pytest.mark.parametrize("name", TEXTS)


def _jobs(name):
    return yaml.safe_load(TEXTS[name])["jobs"]


def _steps(name):
    return [step for job in _jobs(name).values() for step in job["steps"]]


def test_there_are_workflows():
    assert {"ci.yml", "nightly.yml", "release.yml"} <= TEXTS.keys()


@every_workflow
def test_actions_are_fixed(name):
    used = re.findall(r"\buses: *(.+)$", TEXTS[name], flags=re.M)
    assert used
    assert [action for action in used if not PINNED.fullmatch(action.strip())] == []


def test_an_action_has_one_version():
    used = {
        tuple(re.split("@", action, maxsplit=1))
        for text in TEXTS.values()
        for action in re.findall(r"uses: *(.+)$", text, re.M)
    }
    assert len(used) == len({name for name, _ in used})


@every_workflow
def test_rights_are_few(name):
    workflow = yaml.safe_load(TEXTS[name])
    assert workflow["permissions"] == {}
    assert "concurrency" in workflow
    for job in workflow["jobs"].values():
        assert "timeout-minutes" in job
        # Who writes says why, and tests never do.
        if "write" in job["permissions"].values():
            assert name == "release.yml"
    for step in _steps(name):
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False


@every_workflow
def test_nothing_from_outside_is_put_into_a_command(name):
    """It comes as a variable of the environment, where a shell does not read it as a program."""
    assert [step["run"] for step in _steps(name) if "${{" in step.get("run", "")] == []


@every_workflow
def test_commands_exist(name):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    commands = "\n".join(step.get("run", "") for step in _steps(name))
    wanted = set(re.findall(r"\bmake ([a-z][a-z-]*)", commands))
    for job in _jobs(name).values():
        wanted |= set(job.get("strategy", {}).get("matrix", {}).get("chore", []))
    assert wanted <= chores()
    for extras in re.findall(r"\.\[([a-z,]+)\]", commands):
        assert set(extras.split(",")) <= project["optional-dependencies"].keys()
    for file in re.findall(r"(?<![\w/])(?:tests/\w+\.py|\.github/\w+\.txt|Containerfile|CHANGELOG\.md)", commands):
        assert (ROOT / file).is_file(), file


def test_every_python_and_system_is_tried():
    matrix = _jobs("ci.yml")["test"]["strategy"]["matrix"]
    assert matrix["python"] == pythons()
    assert {re.split(r"-\d", system)[0] + ("-arm" if "arm" in system else "") for system in matrix["system"]} == {
        "ubuntu",
        "ubuntu-arm",
        "macos",
        "windows",
    }
    for job in (_jobs("ci.yml")["package"], _jobs("release.yml")["test"]):
        assert job["strategy"]["matrix"] == {"system": matrix["system"], "python": [pythons()[0], pythons()[-1]]}


def test_only_what_was_tested_is_published():
    jobs = _jobs("release.yml")
    needs = {name: job.get("needs") for name, job in jobs.items()}
    assert needs["test"] == "build"
    for name in ("attest", "publish", "container", "announce"):
        before = name
        while before != "test":
            before = needs[before]
    assert jobs["publish"]["environment"] == "pypi"
    assert [step for step in jobs["publish"]["steps"] if "run" in step] == []
