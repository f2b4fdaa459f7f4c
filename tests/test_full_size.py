"""The full size, by hand: `make test-slow`."""

from __future__ import annotations

import pytest

from tests.conftest import ROOT


@pytest.mark.slow
def test_rehearsal():
    """Converts within 8 GB; in single precision a clip is the one that PyTorch makes of the same seed, in int8 it is close."""
    import importlib.util

    spec = importlib.util.spec_from_file_location("rehearsal", ROOT / "bench" / "rehearsal.py")
    rehearsal = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(rehearsal)
    report = rehearsal.rehearse(ROOT / "scratch" / "rehearsal")
    assert report["conversion"]["peak_memory"] < 8e9
    assert all(clip["peak_memory"] < 2e9 for clip in report["clips"]["fp32"])
    assert all(clip["peak_memory"] < 0.7e9 for clip in report["clips"]["int8"])
    for name in ("latents", "samples"):
        assert report["differences"]["int8"][name]["snr"] > 25
        entry = report["differences"]["fp32"][name]
        assert entry["max"] < 1e-4 * max(1, entry["peak"])
        assert entry["peak"] > 0.1
