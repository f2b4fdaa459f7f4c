from __future__ import annotations

import numpy as np
import pytest

import sao_onnx
from sao_onnx.stages.tokenizer import PromptWarning, Tokenizer


@pytest.fixture
def tokenizer(engine) -> Tokenizer:
    return Tokenizer(engine.bundle.path("tokenizer.json"), engine.manifest.conditioning.prompt)


def test_shape_and_padding(tokenizer):
    ids, mask = tokenizer(["kick", "", "a slow rain"])
    assert ids.shape == mask.shape == (3, 64)
    assert ids.dtype == mask.dtype == np.int64
    assert mask.sum(1).tolist() == [2, 1, 4]
    assert (ids[mask == 0] == 0).all()
    assert ids[1, 0] == 1


@pytest.mark.parametrize(
    "prompt", ["café \U0001f3b9 ümlaut", "日本語の太鼓", "a\tb\nc", "\x00", "   ", "<pad></s>", "x" * 5000]
)
def test_any_text(tokenizer, prompt):
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PromptWarning)
        ids, mask = tokenizer([prompt])
    assert ids.shape == (1, 64)
    assert 1 <= mask.sum() <= 64


def test_a_cut_prompt_warns_and_says_where(tokenizer):
    prompt = " ".join(["kick"] * 63 + ["snare", "hat"])
    with pytest.warns(PromptWarning, match=r"64 tokens.*cut before 'snare hat' \(character 316 of 324\)"):
        _, mask = tokenizer([prompt])
    assert mask.sum() == 64
    assert issubclass(PromptWarning, sao_onnx.SaoOnnxWarning)


def test_a_prompt_that_just_fits_does_not_warn(tokenizer):
    _, mask = tokenizer([" ".join(["kick"] * 63)])
    assert mask.sum() == 64
