"""The full size, by hand: `make test-slow`."""

from __future__ import annotations

import pytest

from tests.conftest import ROOT


@pytest.mark.slow
def test_rehearsal():
    """Converts within 8 GB, and a clip is the one that PyTorch makes of the same seed."""
    import importlib.util

    spec = importlib.util.spec_from_file_location("rehearsal", ROOT / "bench" / "rehearsal.py")
    rehearsal = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(rehearsal)
    report = rehearsal.rehearse(ROOT / "scratch" / "rehearsal")
    assert report["conversion"]["peak_memory"] < 8e9
    assert all(clip["peak_memory"] < 2e9 for clip in report["clips"])
    for name in ("latents", "samples"):
        entry = report["differences"][name]
        assert entry["max"] < 1e-4 * max(1, entry["peak"])
        assert entry["peak"] > 0.1
