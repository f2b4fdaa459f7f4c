from __future__ import annotations

import base64
import json
import os
from typing import Any

import numpy as np
import pytest

import sao_onnx
from sao_onnx.errors import BundleError
from sao_onnx.stages import tokenizer as module
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


def _charsmap(data: bytes) -> dict[str, str]:
    return {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(data).decode()}


def _template(*pieces: dict[str, Any]) -> dict[str, Any]:
    special = {"</s>": {"id": "</s>", "ids": [1], "tokens": ["</s>"]}}
    return {"type": "TemplateProcessing", "single": list(pieces), "pair": [], "special_tokens": special}


PROMPT = {"Sequence": {"id": "A", "type_id": 0}}
END = {"SpecialToken": {"id": "</s>", "type_id": 0}}
UNKNOWN = {"SpecialToken": {"id": "</x>", "type_id": 0}}

CHANGES = {
    "no object": lambda data: [data],
    "no model": lambda data: {name: value for name, value in data.items() if name != "model"},
    "an empty vocabulary": lambda data: data | {"model": data["model"] | {"vocab": []}},
    "an unknown token beyond the end": lambda data: data | {"model": data["model"] | {"unk_id": 10**6}},
    "a regular expression that is none": lambda data: (
        data | {"normalizer": {"type": "Replace", "pattern": {"Regex": "((("}, "content": ""}}
    ),
    # These let the library panic, the first two when it is made, the others when it is used.
    "a table of characters that is none": lambda data: data | {"normalizer": _charsmap(b"\0")},
    "a table of characters that is short": lambda data: data | {"normalizer": _charsmap(b"\xff" * 4)},
    "a table of characters that leads astray": lambda data: data | {"normalizer": _charsmap(b"\4\0\0\0" + b"\xff" * 4 + b"\0")},
    "an unknown special token": lambda data: data | {"post_processor": _template(PROMPT, UNKNOWN)},
    "more tokens than there is room for": lambda data: data | {"post_processor": _template(PROMPT, *[END] * 100)},
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_damaged_tokenizer(engine, tmp_path, change):
    data = json.loads(engine.bundle.path("tokenizer.json").read_text(encoding="utf-8"))
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(change(data)), encoding="utf-8")
    with pytest.raises(BundleError, match=r"tokenizer\.json") as caught:
        Tokenizer(path, engine.manifest.conditioning.prompt)(["kick"])
    assert len(str(caught.value)) < 600
    assert str(caught.value).isprintable()


TEXTS = {
    "empty": b"",
    "deep": b"[" * 100_000,
    "not UTF-8": b"\xff\xfe",
    "zero bytes": b"\0" * 1000,
    "cut off": b'{"version": "1.0", ',
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_what_is_no_tokenizer(engine, tmp_path, text):
    path = tmp_path / "tokenizer.json"
    path.write_bytes(text)
    with pytest.raises(BundleError, match=r"tokenizer\.json cannot be used as a tokenizer"):
        Tokenizer(path, engine.manifest.conditioning.prompt)


@pytest.mark.parametrize("kind", ["large", "FIFO", "endless", "folder", "missing"])
def test_a_tokenizer_that_cannot_be_read(engine, tmp_path, kind, monkeypatch):
    path = tmp_path / "tokenizer.json"
    if kind == "large":
        monkeypatch.setattr(module, "LARGEST", 1000)
        path.write_bytes(b" " * 1001)
    elif kind == "folder":
        path.mkdir()
    elif kind == "endless":
        path.symlink_to("/dev/zero")
    elif kind == "FIFO" and hasattr(os, "mkfifo"):
        os.mkfifo(path)
    with pytest.raises(BundleError, match=r"tokenizer\.json"):
        Tokenizer(path, engine.manifest.conditioning.prompt)


def test_an_interruption_stays_one(tokenizer, monkeypatch):
    class Interrupted:
        def encode_batch(self, prompts):
            raise KeyboardInterrupt

    monkeypatch.setattr(tokenizer, "_tokenizer", Interrupted())
    with pytest.raises(KeyboardInterrupt):
        tokenizer(["kick"])
