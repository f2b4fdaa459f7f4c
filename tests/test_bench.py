"""The benchmark runs, on the miniature and with what the project itself installs; what takes a minute, by hand."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.common import FULL_SIZE
from tests.conftest import MINIATURE, ROOT
from tests.processes import succeed

PARTS = (("results", "json"), ("results", "md"), ("stages", "png"), ("memory", "png"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("bench")


def _bench(module, *arguments):
    return succeed([sys.executable, "-m", f"bench.{module}", *arguments], cwd=ROOT)


@pytest.mark.slow
def test_compare(folder):
    _bench("compare", "--quick", "--model", MINIATURE, "--folder", folder / "models", "--results", folder / "results")
    (path,) = (folder / "results").glob("results-*.json")
    report = json.loads(path.read_text())
    assert path.stem == f"results-{report['kind']}"
    assert set(report["runs"]) == {"PyTorch eager", "ONNX Runtime, plain export", "sao-onnx fp32", "sao-onnx int8"}
    for name, runs in report["runs"].items():
        assert len(runs) == 1
        assert runs[0]["seconds"]["sampling"] > 0
        assert runs[0]["peak_memory"] > 1e7
        assert runs[0]["processor_seconds"] > 0
        # Every contender makes the same clip, so none is measured doing something else.
        assert report["closeness"][name]["samples"] > (100 if "int8" not in name else 30), name
    text = path.with_suffix(".md").read_text()
    assert all(name in text for name in report["runs"])
    pictures = {f"{picture}-{report['kind']}.png" for picture in ("stages", "memory")}
    assert pictures <= {path.name for path in (folder / "results").iterdir()}


def _report(kind: str, seconds: float) -> dict[str, Any]:
    spent = {"load": 1.0, "conditioning": 0.1, "sampling": 8.0, "decoding": seconds - 8.1}
    names = ("PyTorch eager", "ONNX Runtime, plain export", "sao-onnx fp32", "sao-onnx int8")
    return {
        "sao_onnx": "1.2.3",
        "kind": kind,
        "machine": {"processor": f"A {kind}", "cores": 2, "features": ["avx2"]},
        "operators": "avx2",
        "threads": 2,
        "steps": 8,
        "rounds": 1,
        "command": "python -m bench.compare --quick",
        "runs": {name: [{"seconds": spent, "peak_memory": 10**9, "processor_seconds": 33.25}] for name in names},
        "closeness": {name: {"samples": 41.0} for name in names},
        "bundle": {"int8": 10**8},
    }


def test_the_results_of_each_kind_of_processor_are_kept(tmp_path):
    from bench.compare import write

    write(_report("fast", 10), tmp_path)
    write(_report("slow", 40), tmp_path)
    written = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    names = {f"{name}-{kind}.{ending}" for kind in ("fast", "slow") for name, ending in PARTS}
    assert written.keys() == names | {"results.md"}
    text = (tmp_path / "results.md").read_text()
    assert "A fast, 2 cores (avx2) | 10.00 s" in text
    assert "A slow, 2 cores (avx2) | 40.00 s" in text
    assert "[slow](results-slow.md)" in text
    assert {line.count("|") for line in text.splitlines() if line.startswith("|")} == {9}
    page = (tmp_path / "results-slow.md").read_text()
    assert "native operators: avx2" in page
    assert "| 33.2 s |" in page
    write(_report("fast", 9), tmp_path)
    assert (tmp_path / "results-slow.md").read_text() == page
    assert "A fast, 2 cores (avx2) | 9.00 s" in (tmp_path / "results.md").read_text()


def test_results_say_what_they_were_made_of(tmp_path):
    """The committed pages are those of the committed numbers, and the overview has all of them."""
    from bench.tables import overview, table

    results = ROOT / "bench" / "results"
    reports = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(results.glob("results-*.json"))]
    assert (results / "results.md").read_text(encoding="utf-8") == overview(reports)
    for report in reports:
        assert (results / f"results-{report['kind']}.md").read_text(encoding="utf-8") == table(report)


@pytest.mark.parametrize(
    ("vendor", "family", "model", "name"),
    [
        ("AuthenticAMD", 25, 17, "zen4"),
        ("AuthenticAMD", 25, 1, "zen3"),
        ("AuthenticAMD", 23, 49, "zen2"),
        ("GenuineIntel", 6, 207, "emerald-rapids"),
        ("GenuineIntel", 6, 1, None),
        ("HygonGenuine", 24, 1, None),
    ],
)
def test_microarchitectures(vendor, family, model, name):
    from bench.kinds import microarchitecture

    lines = f"processor\t: 0\nvendor_id\t: {vendor}\ncpu family\t: {family}\nmodel\t\t: {model}\nmodel name\t: AMD EPYC\n"
    assert microarchitecture(lines) == name
    assert microarchitecture("CPU implementer\t: 0x41\n") is None


def test_kinds_of_processors(monkeypatch):
    from bench import kinds, processors
    from sao_onnx.runtime.machine import describe_machine

    assert kinds.LIMITED.keys() == processors.PROCESSORS.keys()
    monkeypatch.delenv("SAO_ONNX_PROCESSOR", raising=False)
    monkeypatch.setattr(kinds, "microarchitecture", lambda: None)
    pi = replace(describe_machine(), architecture="aarch64", processor="Raspberry Pi 5 Model B, Cortex-A76")
    pi = replace(pi, features=("asimd", "asimddp", "fphp"))
    assert kinds.kind_of(pi) == "raspberry-pi-5-model-b-cortex-a76-asimddp"
    old = replace(pi, architecture="x86_64", processor="Intel(R) Core(TM) i5-4590", features=("avx2",))
    assert kinds.kind_of(old) == "intel-core-i5-4590-avx2"
    assert kinds.kind_of(replace(old, features=None)) == "intel-core-i5-4590"
    monkeypatch.setattr(kinds, "microarchitecture", lambda: "zen4")
    new = replace(old, features=("avx2", "avx512f", "avx512_vnni"))
    assert kinds.kind_of(new) == "zen4-avx512-vnni"
    assert kinds.kind_of(new, operators=True) == "zen4-avx512-vnni-with-operators"
    monkeypatch.setenv("SAO_ONNX_PROCESSOR", "avx_vnni")
    assert kinds.kind_of(new) == "zen4-as-avx-vnni"
    assert kinds.features(new) == ("avx2", "avx_vnni")


def test_the_command_of_a_report(monkeypatch):
    from bench.compare import command

    arguments = Namespace(quick=True, rounds=2, model=FULL_SIZE, folder=Path("of this machine"))
    monkeypatch.delenv("SAO_ONNX_PROCESSOR", raising=False)
    assert command(arguments) == "python -m bench.compare --quick --rounds 2"
    monkeypatch.setenv("SAO_ONNX_PROCESSOR", "avx2")
    arguments = Namespace(quick=False, rounds=None, model=FULL_SIZE)
    assert command(arguments) == "python -m bench.processors avx2 python -m bench.compare"


def test_programs_that_are_measured_find_what_is_on_the_path(tmp_path, monkeypatch):
    """Such as the native operators, behind the engine that is measured."""
    from bench.loading import Way, _run

    engine, given = tmp_path / "engine", tmp_path / "given"
    for folder, names in ((engine, ("sao_onnx",)), (given, ("sao_onnx", "sao_onnx_ops"))):
        for name in names:
            (folder / name).mkdir(parents=True)
            (folder / name / "__init__.py").write_text("")
    code = "import sys, sao_onnx, sao_onnx_ops; print(sao_onnx.__file__, sao_onnx_ops.__file__, file=sys.stderr)"
    monkeypatch.setenv("PYTHONPATH", str(given))
    found = _run(Way("ahead", engine, "ahead"), [sys.executable, "-c", code])[2].split()
    assert found == [str(engine / "sao_onnx" / "__init__.py"), str(given / "sao_onnx_ops" / "__init__.py")]
    monkeypatch.delenv("PYTHONPATH")
    code = "import sys, sao_onnx; print(sao_onnx.__file__, '' in sys.path[1:], file=sys.stderr)"
    assert _run(Way("ahead", engine, "ahead"), [sys.executable, "-c", code])[2].split() == [found[0], "False"]


@pytest.mark.slow
def test_fidelity(folder):
    arguments = ["--model", MINIATURE, "--folder", folder / "models", "--results", folder / "results", "--prompts", "20"]
    _bench("fidelity", *arguments)
    report = json.loads((folder / "results" / "fidelity.json").read_text())
    assert report["prompts"]["count"] == 20
    assert report["prompts"]["finite"]
    assert report["prompts"]["least"] > 0.999
    found = {row["what"]: row["snr"] for row in report["dit"]}
    alone = [snr for what, snr in found.items() if what.endswith("alone")]
    # Everything in 8 bits is further off than any one kind of product.
    assert 30 < found["the recipe"] < min(alone)
    decoder = {row["what"]: row["snr"] for row in report["decoder"]}
    assert decoder["all"] < min(snr for what, snr in decoder.items() if what.startswith("block"))


@pytest.mark.slow
def test_profile(folder):
    text = _bench("profile", "--model", MINIATURE, "--folder", folder / "models", "--results", folder / "results")
    assert "## dit" in text
    assert "| MatMulIntegerToFloat |" in text
    assert "## decoder_3" in text
    assert "| GatherElements |" in text


def test_growth(folder):
    from bench import growth

    spent = growth.stage_seconds(MINIATURE / "bundle", "variations", 2)
    assert spent["sampling"] > 0
    several = {"variations": {"1": spent, "2": spent}, "seconds": {"1": spent}}
    assert "| 2 |" in "\n".join(growth.table(several))


def test_growth_is_drawn(folder):
    from bench import pictures

    spent = {"load": 1.0, "conditioning": 0.1, "encoding": 0.0, "sampling": 2.0, "decoding": 1.0}
    runs = {"ours": [{"seconds": spent, "peak_memory": 10**9}]}
    report = {
        "kind": "a-kind",
        "runs": runs,
        "threads": 2,
        "growth": {"steps": {"1": spent, "8": spent}, "threads": {"1": spent}},
    }
    target = folder / "pictures"
    target.mkdir()
    pictures.draw(report, target)
    assert (target / "growth-a-kind.png").stat().st_size > 5000


def test_log_mel():
    """A tone lies in the band of its pitch; halving it takes 6 dB from every band that it reaches."""
    from bench.clip_fidelity import BANDS, log_mel

    time = np.arange(44100) / 44100
    tone = np.sin(2 * np.pi * 1000 * time)[None].astype(np.float32)
    mel = log_mel(tone, 44100)
    assert mel.shape[0] == 1
    assert mel.shape[2] == BANDS
    centre = 2595 * np.log10(1 + 1000 / 700) / (2595 * np.log10(1 + 22050 / 700) / (BANDS + 1)) - 1
    assert abs(mel[0].mean(axis=0).argmax() - centre) < 1
    assert log_mel(tone, 44100).max() - log_mel(tone / 2, 44100).max() == pytest.approx(6.02, abs=0.01)


def test_prompts_vary():
    from bench.clip_fidelity import varied_prompts

    prompts = varied_prompts(1000)
    assert len(prompts) == 1000
    assert len(set(prompts)) > 990
    assert "" in prompts


def test_samplers_are_measured_against_the_end_of_the_path():
    from bench import samplers

    def latents(prompt, seed, sampler, steps, scale):
        """Closer with every step, DPM++ twice as close; the truth has an error as well."""
        return np.full((2, 3), scale + seed + (2 if sampler == "euler" else 1) / steps, np.float32)

    found = samplers.measured(latents, ("rain", "wind"))
    assert found.keys() == {(*tried, scale) for tried in samplers.TRIED for scale in samplers.SCALES}
    assert all(len(ratios) == 2 for ratios in found.values())
    assert np.mean(found["dpmpp", 25, 1.0]) > np.mean(found["euler", 25, 1.0]) > np.mean(found["euler", 8, 1.0])
    text = list(samplers.report(found, "a model"))
    assert len([line for line in text if line.startswith("| dpmpp")]) == sum(name == "dpmpp" for name, _ in samplers.TRIED)
    assert {line.count("|") for line in text if line.startswith("|")} == {2 + len(samplers.SCALES)}


def test_the_table_of_limits():
    from bench.limits import WAYS, command, table

    done, refused = (
        {"outcome": "done", "seconds": 6.1, "said": ""},
        {"outcome": "refused", "seconds": 0.3, "said": "too little"},
    )
    rows = [{"limit": 500, "ends": dict.fromkeys(WAYS, done)}, {"limit": 400, "ends": dict.fromkeys(WAYS, refused)}]
    text = list(table({"processor": "a processor", "rows": rows}))
    lines = [line for line in text if line.startswith("|")]
    assert {line.count("|") for line in lines} == {len(WAYS) + 2}
    assert lines[-2].startswith("| 500 MB | done, 6.1 s |")
    assert "gen --preview says: `too little`" in text
    assert all(str(ROOT / "bundle") in command(way, ROOT) for way in WAYS)
