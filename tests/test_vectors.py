"""The committed test vectors are what the engine computes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from models.vectors import make
from models.vectors.arrays import kept_values

INT8_DECIBELS = 25.0
"""Between processors: a value that falls on the other side of a step is a step away, and others follow from it."""


def committed(name):
    return json.loads((Path(make.HERE) / f"{name}.json").read_text(encoding="utf-8"))


def compare(found, expected, precision="fp32", place=""):
    """Arrays are close, all else is equal."""
    if isinstance(expected, dict) and "float32" in expected:
        assert found["shape"] == expected["shape"], place
        given, wanted = kept_values(found), kept_values(expected)
        if precision == "fp32":
            np.testing.assert_allclose(given, wanted, rtol=0, atol=1e-4, err_msg=place)
        else:
            noise = max(float(np.mean((given - wanted) ** 2)), 1e-20)
            assert 10 * np.log10(np.mean(wanted**2) / noise) > INT8_DECIBELS, place
    elif isinstance(expected, dict):
        assert found.keys() == expected.keys(), place
        for key, value in expected.items():
            compare(found[key], value, precision, f"{place}.{key}")
    elif isinstance(expected, list):
        assert len(found) == len(expected), place
        for index, (one, other) in enumerate(zip(found, expected, strict=True)):
            compare(one, other, precision, f"{place}[{index}]")
    else:
        assert found == expected, place


def test_what_needs_no_bundle():
    compare(json.loads(json.dumps(make.shared())), committed("shared"))


@pytest.mark.parametrize("name", sorted(make.SOURCES))
def test_a_bundle(name):
    source = make.SOURCES[name]
    compare(json.loads(json.dumps(make.bundle(source))), committed(name), source.precision)


def test_they_are_small():
    files = sorted(Path(make.HERE).glob("*.json"))
    assert [file.stem for file in files] == sorted([*make.SOURCES, "shared"])
    assert sum(file.stat().st_size for file in files) < 300_000
