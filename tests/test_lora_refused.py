"""LoRAs that cannot be merged: damaged, hostile, of another model, or of a kind that changes more than layers."""

from __future__ import annotations

import json
import pickle
import re
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from sao_onnx_convert import CheckpointError, CheckpointNotFoundError, ConversionError
from sao_onnx_convert.family.stable_audio_open.networks.model import AudioModel, outline
from sao_onnx_convert.lora import stored
from sao_onnx_convert.lora.adapter import read_adapter
from sao_onnx_convert.lora.argument import parse
from sao_onnx_convert.lora.fit import MOST_RANK
from sao_onnx_convert.lora.merge import merge, require_fit
from sao_onnx_convert.source.config import parse_config
from tests.conftest import MINIATURE

ATTENTION = "transformer.layers.0.self_attn"
QKV = f"model.{ATTENTION}.to_qkv"


@pytest.fixture(scope="module")
def model() -> AudioModel:
    """The miniature's networks, without weights."""
    return outline(parse_config(json.loads((MINIATURE / "model_config.json").read_text())), 32)


def _product(inputs=64, outputs=192, rank=2, name=QKV) -> dict[str, Tensor]:
    parts = {"lora_A": torch.ones(rank, inputs), "lora_B": torch.ones(outputs, rank)}
    return {f"{name}.parametrizations.weight.0.{part}": tensor for part, tensor in parts.items()}


def _saved(path: Path, tensors: dict[str, Tensor], **settings: Any) -> Path:
    """A file of stable-audio-tools."""
    save_file(tensors, path, metadata={"lora_config": json.dumps({"adapter_type": "lora", "alpha": 2, "rank": 2} | settings)})
    return path


def _folder(path: Path, tensors: dict[str, Tensor], **settings: Any) -> Path:
    """A folder of PEFT."""
    path.mkdir()
    save_file(tensors, path / "adapter_model.safetensors")
    (path / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 2, "lora_alpha": 2} | settings))
    return path


def _peft(name=QKV, inputs=64, outputs=192, rank=2) -> dict[str, Tensor]:
    parts = {"lora_A": torch.ones(rank, inputs), "lora_B": torch.ones(outputs, rank)}
    return {f"base_model.model.{name}.{part}.weight": tensor for part, tensor in parts.items()}


def _refused(path: Path, *words: str, model: nn.Module | None = None, strength: float = 1.0) -> None:
    def try_it() -> None:
        adapter = read_adapter(path, strength)
        if model is not None:
            require_fit(model, [adapter])

    with pytest.raises(CheckpointError) as caught:
        try_it()
    message = str(caught.value)
    assert message.count("\n") == 0
    for word in (str(path), *words):
        assert word in message


def test_what_fits(model, tmp_path):
    """The file that the others are made from."""
    require_fit(model, [read_adapter(_saved(tmp_path / "a.safetensors", _product()))])
    require_fit(model, [read_adapter(_folder(tmp_path / "a", _peft()))])


# What is no LoRA.


def test_no_file(tmp_path):
    with pytest.raises(CheckpointNotFoundError, match=r"nothing\.safetensors is no file; expected a LoRA: a \.safetensors"):
        read_adapter(tmp_path / "nothing.safetensors")
    (tmp_path / "a.txt").write_text("hello")
    _refused(tmp_path / "a.txt", "is no LoRA: expected a .safetensors or .ckpt file, or a folder of PEFT")
    (tmp_path / "folder").mkdir()
    _refused(tmp_path / "folder", "lacks adapter_config.json and adapter_model.safetensors")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "it is empty"),
        (b"<!DOCTYPE html><html>", "it is a web page"),
        (struct.pack("<Q", 1 << 40) + b"{}", "it does not begin with the header"),
        (struct.pack("<Q", 60) + b'{"a":{"dtype":"F32","shape":[99],"data_offsets":[0,396]}}   ', "it is cut short"),
        (struct.pack("<Q", 61) + b'{"a":{"dtype":"F32","shape":[9],"data_offsets":[0,4]}}       ' + bytes(4), "cannot be read"),
        (pickle.dumps({"a": 1}, protocol=2), "it is a pickled checkpoint"),
    ],
    ids=["empty", "page", "long header", "short", "lying header", "pickle"],
)
def test_damaged_safetensors(tmp_path, content, words):
    path = tmp_path / "a.safetensors"
    path.write_bytes(content)
    _refused(path, words)


class _Command:
    """Runs a command when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_pickle_runs_nothing(tmp_path):
    mark = tmp_path / "ran"
    torch.save({f"{QKV}/lora_down.weight".replace(".", "/", 1): torch.ones(2, 2), "more": _Command(mark)}, tmp_path / "a.ckpt")
    _refused(tmp_path / "a.ckpt", "is refused")
    torch.save({"a": _Command(mark)}, tmp_path / "b.ckpt", _use_new_zipfile_serialization=False)
    _refused(tmp_path / "b.ckpt", "cannot be read")
    (tmp_path / "c.ckpt").write_bytes(pickle.dumps(_Command(mark)))
    _refused(tmp_path / "c.ckpt", "cannot be read")
    assert not mark.exists()


def test_an_archive_that_ends_early(tmp_path):
    """Its table says that the instructions go on past its end."""
    path = tmp_path / "a.ckpt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/version", "3" * 100)
        archive.writestr("a/data.pkl", "pickle")
    content = bytearray(path.read_bytes())
    entry = content.rindex(b"PK\x01\x02")
    more = struct.pack("<II", *[len(content) - content.index(b"pickle") + 1] * 2)
    content[entry + 20 : entry + 28] = more
    path.write_bytes(content)
    _refused(path, "is damaged or cut short")


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (torch.ones(1).expand(1 << 40, 1 << 20), "holds model/x/lora_down.weight, expected plain tensors"),
        (torch.ones(2, 2, dtype=torch.int64), "holds model/x/lora_down.weight, expected plain tensors"),
        ([1.0], "holds model/x/lora_down.weight, expected plain tensors"),
        (3, "holds model/x/lora_down.weight, expected plain tensors"),
        (torch.ones(2, 2).to_sparse(), "is refused: it holds torch._utils._rebuild_sparse_tensor"),
        (torch.ones(2, 2, device="meta"), "is refused: it holds torch._utils._rebuild_meta_tensor_no_storage"),
    ],
    ids=["a number repeated", "whole", "list", "number", "sparse", "meta"],
)
def test_what_is_no_plain_tensor(tmp_path, value, words):
    torch.save({"model/x/lora_down.weight": value, "model/x/lora_up.weight": torch.ones(2, 2)}, tmp_path / "a.ckpt")
    _refused(tmp_path / "a.ckpt", words)


def test_what_is_too_large(tmp_path, monkeypatch):
    monkeypatch.setattr(stored, "LARGEST", 20_000)
    tensors = {f"model/{index}/lora_up.weight": torch.ones(50) for index in range(3)}
    save_file(tensors | {"x": torch.ones(6000)}, tmp_path / "a.safetensors")
    _refused(tmp_path / "a.safetensors", "is no LoRA: it has 24")
    # Each tensor is there, and all are the same numbers.
    one = torch.ones(1000, dtype=torch.float16)
    torch.save({f"model/{index}/lora_up.weight": one for index in range(12)}, tmp_path / "b.ckpt")
    _refused(tmp_path / "b.ckpt", "its tensors take more than 40000 bytes")
    torch.save({"model/x/lora_up.weight": torch.zeros(8000)}, tmp_path / "c.ckpt")
    with (
        zipfile.ZipFile(tmp_path / "c.ckpt") as stored_,
        zipfile.ZipFile(tmp_path / "d.ckpt", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for name in stored_.namelist():
            packed.writestr(name, stored_.read(name))
    assert (tmp_path / "d.ckpt").stat().st_size < 20_000
    _refused(tmp_path / "d.ckpt", "is no archive that torch.save wrote: found packed files")


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_numbers_that_are_none(tmp_path, number):
    tensors = _product()
    tensors[f"{QKV}.parametrizations.weight.0.lora_B"][3, 1] = number
    _refused(_saved(tmp_path / "a.safetensors", tensors), "holds NaN or infinite values in", "lora_B")


def test_a_whole_model_is_no_lora(tmp_path):
    save_file({"model.model.transformer.project_in.weight": torch.ones(2, 2)}, tmp_path / "a.safetensors")
    _refused(
        tmp_path / "a.safetensors", "holds no LoRA that is known: found model.model.transformer.project_in.weight; expected"
    )
    save_file({}, tmp_path / "b.safetensors")
    _refused(tmp_path / "b.safetensors", "found no tensors")
    save_file(_peft(), tmp_path / "c.safetensors")
    _refused(tmp_path / "c.safetensors", "is a LoRA of PEFT, whose settings are in adapter_config.json; name the folder")
    save_file({"lora_unet_transformer_layers_0_to_qkv.lora_down.weight": torch.ones(2, 2)}, tmp_path / "d.safetensors")
    _refused(tmp_path / "d.safetensors", "holds no LoRA that is known")


# Files that contradict themselves.


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"rank": 3}, "found tensors of rank 2, expected 3 in every layer"),
        ({"rank": 0}, "expected 0 in every layer"),
        ({"rank": True}, "rank: found True, expected a whole number"),
        ({"rank": 10**400}, "found tensors of rank 2"),
        ({"alpha": "1"}, "alpha: found '1', expected a finite number"),
        ({"adapter_type": "loha"}, "adapter_type: found 'loha', expected one of 'lora'"),
        ({"adapter_type": "dora-rows"}, "of type dora-rows it holds lora_A, lora_B, expected lora_A, lora_B, magnitude"),
        ({"adapter_type": "lora-xs"}, "expected M_xs"),
    ],
)
def test_settings_that_contradict_the_tensors(tmp_path, settings, words):
    _refused(_saved(tmp_path / "a.safetensors", _product(), **settings), words)


@pytest.mark.parametrize("text", ["{", "[]", '{"alpha": NaN}', '{"alpha": 1e999}', "[" * 100_000])
def test_settings_that_are_none(tmp_path, text):
    save_file(_product(), tmp_path / "a.safetensors", metadata={"lora_config": text})
    _refused(tmp_path / "a.safetensors", "settings (lora_config)")


def test_parts_that_are_missing_or_too_many(tmp_path):
    tensors = _product()
    del tensors[f"{QKV}.parametrizations.weight.0.lora_A"]
    _refused(_saved(tmp_path / "a.safetensors", tensors), f"for {QKV} of type lora it holds lora_B, expected lora_A, lora_B")
    tensors = _product() | {f"{QKV}.parametrizations.weight.1.lora_A": torch.ones(1), "x" * 600: torch.ones(1)}
    tensors |= {f"{QKV}.{number}": torch.ones(1) for number in range(9)}
    _refused(_saved(tmp_path / "b.safetensors", tensors), "holds more than a LoRA", f"{QKV}.0, ", "and 7 more")
    torch.save({"model/x/lora_down.weight": torch.ones(2, 2)}, tmp_path / "c.ckpt")
    _refused(tmp_path / "c.ckpt", "for model/x it holds lora_down.weight, expected lora_down.weight, lora_up.weight")


def test_ranks_that_differ(tmp_path):
    tensors = _product() | _product(rank=3, name=f"model.{ATTENTION}.to_out", outputs=64)
    for index, settings in enumerate(({}, {"rank": None})):
        _refused(_saved(tmp_path / f"{index}.safetensors", tensors, **settings), "found tensors of rank 2, 3, expected")


# Files that do not fit the model.


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        (_product(outputs=190), f"model.{QKV} [190, 2] by [2, 64], expected a product for [192, 64]"),
        (_product(name="model.preprocess_conv", inputs=8, outputs=9), "expected a product for [8, 8, 1]"),
        (
            _product() | {f"{QKV}.parametrizations.weight.0.magnitude": torch.ones(64)},
            "magnitudes of rows [64], expected 192",
        ),
        (
            _product() | {f"{QKV}.parametrizations.weight.0.magnitude": torch.ones(2, 96)},
            "magnitudes of rows [2, 96], expected 192",
        ),
        ({f"{QKV}.parametrizations.weight.0.M_xs": torch.ones(2, 3)}, "a core [2, 3], expected"),
        ({f"{QKV}.parametrizations.weight.0.M_xs": torch.ones(65, 65)}, "a core [65, 65], expected"),
    ],
)
def test_shapes_that_do_not_fit(model, tmp_path, tensors, words):
    kind = "dora-rows" if "magnitude" in " ".join(tensors) else "lora-xs" if "M_xs" in " ".join(tensors) else "lora"
    path = _saved(tmp_path / "a.safetensors", tensors, adapter_type=kind, rank=None)
    _refused(path, "does not fit this model", words, model=model)


def test_a_huge_rank(model, tmp_path):
    path = _saved(tmp_path / "a.safetensors", _product(rank=MOST_RANK + 1), rank=MOST_RANK + 1)
    _refused(path, f"of rank {MOST_RANK + 1}, expected at most {MOST_RANK}", model=model)


@pytest.mark.parametrize("shape", [(), (0,), (0, 64)])
def test_shapes_of_nothing(model, tmp_path, shape):
    tensors = {
        f"base_model.model.{QKV}.lora_A.weight": torch.ones(shape),
        f"base_model.model.{QKV}.lora_B.weight": torch.ones(192, 0),
    }
    _refused(_folder(tmp_path / "a", tensors), "does not fit this model", model=model)


def test_names_that_are_not_there(model, tmp_path):
    tensors = _product() | {n: t for i in range(9) for n, t in _product(name=f"model.transformer.layers.0.ff.{i}").items()}
    words = "9 of its 10 layers are not in this one: model.transformer.layers.0.ff.0, "
    _refused(_saved(tmp_path / "a.safetensors", tensors), "was made for another model", words, "and 5 more", model=model)
    # Weights, but not of layers.
    tensors = _product(name="model.timestep_features", inputs=1, outputs=128)
    _refused(_saved(tmp_path / "b.safetensors", tensors), "1 of its 1 layers are not in this one", model=model)
    twice = _peft() | _peft(name=f"model.{QKV}")
    _refused(_folder(tmp_path / "c", twice), f"changes layers twice: {QKV}", model=model)


@pytest.mark.parametrize(
    ("blocks", "width", "words"),
    [
        (24, 1536, ", Stable Audio Open 1.0 by its size: found a transformer of at least 24 blocks and 1536 channels"),
        (1, 1536, ", Stable Audio Open 1.0 by its size: found a transformer of at least 1 blocks and 1536 channels"),
        (16, 1024, ", Stable Audio Open Small by its size: found a transformer of at least 16 blocks and 1024 channels"),
        (24, 512, "for another model: found a transformer of at least 24 blocks and 512 channels"),
    ],
)
def test_a_lora_of_another_model(model, tmp_path, blocks, width, words):
    tensors: dict[str, Tensor] = {}
    for block in range(blocks):
        tensors |= _product(name=f"model.transformer.layers.{block}.self_attn.to_qkv", inputs=width, outputs=3 * width)
    path = _saved(tmp_path / "a.safetensors", tensors)
    _refused(path, words, "expected one of 2 blocks and 64 channels", model=model)


def test_a_core_of_another_model(model, tmp_path):
    tensors = {f"model.transformer.layers.{b}.ff.ff.2.parametrizations.weight.0.M_xs": torch.ones(2, 2) for b in range(24)}
    path = _saved(tmp_path / "a.safetensors", tensors, adapter_type="lora-xs")
    _refused(path, "Stable Audio Open 1.0 by its size: found a transformer of at least 24 blocks, expected", model=model)


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("encoder.block.0.layer.0.SelfAttention.q", "the T5 text encoder"),
        ("conditioners.prompt.model.encoder.block.0.layer.0.SelfAttention.q", "the T5 text encoder"),
        ("pretransform.model.decoder.layers.0", "the autoencoder"),
        ("decoder.layers.1.layers.1", "the autoencoder"),
    ],
)
def test_other_parts_of_a_model(model, tmp_path, name, part):
    words = f"changes {part} ({name}), which is not supported; expected a LoRA of the transformer or of the number conditioners"
    _refused(_saved(tmp_path / "a.safetensors", _product() | _product(name=name)), words, model=model)
    _refused(_folder(tmp_path / "b", _peft(name=name)), words, model=model)


# PEFT.


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"peft_type": "LOHA"}, "peft_type: found 'LOHA', expected 'LORA'"),
        ({"peft_type": None}, "peft_type: found None"),
        ({"modules_to_save": ["to_out"]}, "modules_to_save: found ['to_out'], which cannot be merged; expected none"),
        ({"bias": "all"}, "bias: found 'all', expected 'none'"),
        ({"lora_bias": True}, "lora_bias: found True"),
        ({"layer_replication": [[0, 2]]}, "layer_replication: found"),
        ({"init_lora_weights": "pissa_niter_4"}, "init_lora_weights: found 'pissa_niter_4', which changes the model's weights"),
        ({"init_lora_weights": "OLoRA"}, "init_lora_weights: found"),
        ({"use_dora": True}, "it holds lora_A, lora_B, expected lora_A, lora_B, lora_magnitude_vector"),
        ({"lora_alpha": None}, "lora_alpha: found None, expected a finite number"),
        ({"alpha_pattern": {"(a+)+b": 1}}, "alpha_pattern: '(a+)+b' cannot be used (it is too long or repeats too much)"),
        ({"alpha_pattern": {r"\d+" * 9: 1}}, "cannot be used"),
        ({"alpha_pattern": {"a" * 501: 1}}, "cannot be used"),
        ({"alpha_pattern": {"(": 1}}, "cannot be used"),
    ],
)
def test_peft_that_does_more(tmp_path, settings, words):
    folder = _folder(tmp_path / "a", _peft(), **settings)
    _refused(folder, words)


def test_peft_with_more_tensors(tmp_path):
    for index, name in enumerate(("lora_B.bias", "lora_embedding_A", "weight")):
        tensors = _peft() | {f"base_model.model.{QKV}.{name}": torch.ones(2)}
        _refused(
            _folder(tmp_path / str(index), tensors), f"holds more than a LoRA, which cannot be merged: base_model.model.{QKV}"
        )


@pytest.mark.parametrize("text", ["[]", "{", "null", '{"peft_type": "LORA", "lora_alpha": NaN}'])
def test_peft_without_settings(tmp_path, text):
    folder = _folder(tmp_path / "a", _peft())
    (folder / "adapter_config.json").write_text(text)
    _refused(folder, "adapter_config.json")
    (folder / "adapter_config.json").unlink()
    _refused(folder, "lacks adapter_config.json")


@pytest.mark.parametrize("data", [{"rank": 0, "alpha": 1}, {"rank": 2}, [], {"rank": 2, "alpha": "x"}])
def test_settings_of_loraw(tmp_path, data):
    names = ("model/x/lora_down.weight", "model/x/lora_up.weight")
    torch.save({name: torch.ones(2, 2) for name in names}, tmp_path / "a.ckpt")
    (tmp_path / "a.json").write_text(json.dumps({"lora": data}))
    with pytest.raises(CheckpointError, match=r"a\.json: lora"):
        read_adapter(tmp_path / "a.ckpt")


# Strengths.


@pytest.mark.parametrize("strength", [float("nan"), float("inf"), True, "1"])
def test_strengths_that_are_none(tmp_path, strength):
    _refused(_saved(tmp_path / "a.safetensors", _product()), "expected a finite number, for example 0.8", strength=strength)


def test_a_strength_that_is_too_large(tmp_path):
    net = nn.Module()
    net.add_module("model", nn.Linear(4, 4, bias=False))
    path = _saved(tmp_path / "a.safetensors", _product(4, 4, name="model"))
    before = net.state_dict()["model.weight"].clone()
    with pytest.raises(CheckpointError, match=re.escape("at strength 1e+39 makes model infinite; expected a strength near 1")):
        merge(net, [read_adapter(path, 1e39)])
    assert torch.equal(net.state_dict()["model.weight"], before)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a.safetensors", ("a.safetensors", 1.0)),
        ("a.safetensors:0.7", ("a.safetensors", 0.7)),
        ("a.safetensors:-1", ("a.safetensors", -1.0)),
        ("a.safetensors:0", ("a.safetensors", 0.0)),
        ("a.safetensors:.5", ("a.safetensors", 0.5)),
        ("a.safetensors:+2.", ("a.safetensors", 2.0)),
        ("a.safetensors:1e-2", ("a.safetensors", 0.01)),
        (r"C:\loras\a.safetensors", (r"C:\loras\a.safetensors", 1.0)),
        (r"C:\loras\a.safetensors:0.5", (r"C:\loras\a.safetensors", 0.5)),
        ("C:/loras/folder:-0.5", ("C:/loras/folder", -0.5)),
        ("mix: loud.safetensors", ("mix: loud.safetensors", 1.0)),
        ("mix: loud.safetensors:2", ("mix: loud.safetensors", 2.0)),
        ("take:2", ("take:2", 1.0)),
        ("take:2:0.5", ("take:2", 0.5)),
        ("take", ("take", 1.0)),
        ("take:3", ("take", 3.0)),
        (":2", (":2", 1.0)),
        ("", ("", 1.0)),
    ],
)
def test_the_argument(tmp_path, monkeypatch, text, expected):
    monkeypatch.chdir(tmp_path)
    for name in ("take:2", "take"):
        Path(name).touch()
    assert parse(text) == expected


@pytest.mark.parametrize("strength", ["nan", "-inf", "Infinity", "1e999", "0,5", "", "loud", "1_0", "١"])
def test_the_argument_refused(tmp_path, monkeypatch, strength):
    monkeypatch.chdir(tmp_path)
    Path("a.safetensors").touch()
    with pytest.raises(ConversionError, match=r"the strength is .*, expected a finite number, for example 0\.8"):
        parse(f"a.safetensors:{strength}")


def test_arrays_are_in_single_precision(tmp_path):
    adapter = read_adapter(_saved(tmp_path / "a.safetensors", {n: t.half() for n, t in _product().items()}))
    (change,) = adapter.layers.values()
    assert change.down is not None
    assert change.down.dtype == np.float32
