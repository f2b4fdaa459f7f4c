"""The full size, by hand: `make test-slow`."""

from __future__ import annotations

import pytest

from tests.conftest import ROOT


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
