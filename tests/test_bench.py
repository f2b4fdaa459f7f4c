"""The benchmark runs, on the miniature and with what the project itself installs; what takes a minute, by hand."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest

from tests.conftest import MINIATURE, ROOT
from tests.processes import succeed


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("bench")


def _bench(module, *arguments):
    return succeed([sys.executable, "-m", f"bench.{module}", *arguments], cwd=ROOT)


@pytest.mark.slow
def test_compare(folder):
    _bench("compare", "--quick", "--model", MINIATURE, "--folder", folder / "models", "--results", folder / "results")
    report = json.loads((folder / "results" / "results.json").read_text())
    assert set(report["runs"]) == {"PyTorch eager", "ONNX Runtime, plain export", "sao-onnx fp32", "sao-onnx int8"}
    for name, runs in report["runs"].items():
        assert len(runs) == 1
        assert runs[0]["seconds"]["sampling"] > 0
        assert runs[0]["peak_memory"] > 1e7
        # Every contender makes the same clip, so none is measured doing something else.
        assert report["closeness"][name]["samples"] > (100 if "int8" not in name else 30), name
    text = (folder / "results" / "results.md").read_text()
    assert all(name in text for name in report["runs"])
    assert {"stages.png", "memory.png"} <= {path.name for path in (folder / "results").iterdir()}


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
    report = {"runs": runs, "threads": 2, "growth": {"steps": {"1": spent, "8": spent}, "threads": {"1": spent}}}
    target = folder / "pictures"
    target.mkdir()
    pictures.draw(report, target)
    assert (target / "growth.png").stat().st_size > 5000


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
