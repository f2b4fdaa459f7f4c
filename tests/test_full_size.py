"""The full size, by hand: `make test-slow`."""

from __future__ import annotations

import re
import sys

import pytest

from tests.conftest import ROOT
from tests.processes import succeed


@pytest.mark.slow
def test_rehearsal():
    """Converts within 8 GB; in single precision a clip is the one that PyTorch makes of the same seed, in int8 it is close."""
    from bench.rehearsal import rehearse

    report = rehearse(ROOT / "scratch" / "bench")
    assert report["conversion"]["peak_memory"] < 8e9
    assert all(run["peak_memory"] < 2e9 for run in report["commands"]["fp32"])
    assert all(run["peak_memory"] < 0.6e9 for run in report["commands"]["int8"])
    for name in ("latents", "samples"):
        assert report["differences"]["int8"][name]["snr"] > 25
        entry = report["differences"]["fp32"][name]
        assert entry["max"] < 1e-4 * max(1, entry["peak"])
        assert entry["peak"] > 0.1


@pytest.mark.slow
def test_a_snapshot_of_a_training(tmp_path):
    """6 GB on the disk, 10 GB with what is made of it; the weights are those of the plain file."""
    succeed([sys.executable, "-m", "bench.fine_tunes", "--results", tmp_path], cwd=ROOT)
    peaks = dict(re.findall(r"\| ([a-z ]+),? ?.* \| ([\d.]+) \|", (tmp_path / "fine-tunes.md").read_text(encoding="utf-8")))
    assert float(peaks["the snapshot read"]) < 4
    assert float(peaks["the snapshot converted"]) < 10
