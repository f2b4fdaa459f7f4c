"""The page about many machines: its job files are run as far as they can be without the machines."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.processes import COMMAND, run

PAGE = ROOT / "docs" / "many-machines.md"

STANDS_FOR = {
    "srun": 'exec "$@"',
    "ssh": 'shift; exec sh -c "$*"',
    "sao-onnx": f'exec "{COMMAND}" "$@"',
}
"""Programs of other machines, as scripts of this one."""


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def block(word, language="sh"):
    found = [text for text in blocks(language) if word in text]
    assert len(found) == 1, word
    return found[0]


@pytest.fixture
def shell(miniature, tmp_path):
    """Runs a script in a folder that all machines share, with a list of five lines."""
    (tmp_path / "bin").mkdir()
    for name, script in STANDS_FOR.items():
        path = tmp_path / "bin" / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
    shared = tmp_path / "shared"
    shared.mkdir()
    (shared / "list.csv").write_text("prompt,seconds,steps\n" + "".join(f"rain {i},0.1,1\n" for i in range(5)))
    path = f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"
    inherited = os.environ | {"PATH": path, "SAO_ONNX_MODEL": str(miniature)}

    def shell(script, **variables):
        return run(["bash", "-c", script.replace("/shared", str(shared))], cwd=shared, env=inherited | variables)

    yield shell
    assert sorted(os.listdir(shared)) == ["clips", "list.csv"]
    assert sorted(os.listdir(shared / "clips")) == [f"{i + 1:03}-rain-{i}.wav" for i in range(5)], "every line, once"


def test_one_machine(shell):
    done = shell(block("--jobs 2"))
    assert done.stderr == "5 made, 0 there before, 0 failed\n"


def test_slurm(shell):
    script = block("#SBATCH")
    first, last = map(int, re.findall(r"#SBATCH --array=(\d+)-(\d+)", script)[0])
    threads = re.findall(r"#SBATCH --cpus-per-task=(\d+)", script)[0]
    assert first == 1
    made = 0
    # The others have no lines here.
    for index in range(1, 7):
        variables = {"SLURM_ARRAY_TASK_ID": str(index), "SLURM_ARRAY_TASK_COUNT": str(last), "SLURM_CPUS_PER_TASK": threads}
        done = shell(script, **variables)
        assert done.returncode == 0, done.stderr
        made += len(done.stdout.splitlines())
    assert made == 5


def test_kubernetes(shell):
    yaml = pytest.importorskip("yaml", reason="needs PyYAML")
    job = yaml.safe_load(block("kind: Job", "yaml"))
    spec = job["spec"]
    assert (job["apiVersion"], job["kind"], spec["completionMode"]) == ("batch/v1", "Job", "Indexed")
    assert spec["template"]["spec"]["restartPolicy"] == "Never", "which backoffLimitPerIndex asks for"
    container = spec["template"]["spec"]["containers"][0]
    assert container["command"] == ["/bin/sh", "-c"]
    assert f'/{spec["completions"]}"' in container["args"][0]
    mounted = {mount["name"] for mount in container["volumeMounts"]}
    assert mounted == {volume["name"] for volume in spec["template"]["spec"]["volumes"]}
    for index in range(6):
        done = shell(container["args"][0], JOB_COMPLETION_INDEX=str(index))
        assert done.returncode == 0, done.stderr


def test_ssh(shell):
    assert shell(block("ssh ")).returncode == 0


def test_parallel(shell):
    """Its line, without the program, which may not be there: each argument in the place of {}."""
    script = block("parallel ").replace("\\\n", " ")
    found = re.fullmatch(r"parallel .*--workdir /shared\s+(sao-onnx .*\{\}.*) ::: ([\d ]+)\n", script)
    assert found
    for argument in found[2].split():
        assert shell(found[1].replace("{}", argument)).returncode == 0


def test_its_files_are_there():
    for target in re.findall(r"\]\((\.\.?/[^)#]+)\)", PAGE.read_text(encoding="utf-8")):
        assert (Path(PAGE.parent) / target).exists(), target
