"""Layouts of a checkpoint: those that load give the same weights, and each of the others is called by its name."""

from __future__ import annotations

import json
import struct

import pytest
import torch
from safetensors.torch import load_file, save_file

from sao_onnx_convert import CheckpointError, convert
from sao_onnx_convert.family.stable_audio_open.networks.autoencoder import WeightNormConv
from sao_onnx_convert.family.stable_audio_open.networks.model import AudioModel, load_model
from sao_onnx_convert.source.config import load_config
from sao_onnx_convert.source.files import other_model

T5_WIDTH = 32
NORMED = "pretransform.model.decoder.layers.0"
FLAT = ("weight_g", "weight_v")
PARAMETRIZED = ("parametrizations.weight.original0", "parametrizations.weight.original1")


@pytest.fixture(scope="module")
def stored(checkpoint) -> dict[str, torch.Tensor]:
    """The miniature's tensors in single precision."""
    return {name: tensor.float() for name, tensor in load_file(checkpoint / "model.safetensors").items()}


@pytest.fixture(scope="module")
def config(checkpoint):
    return load_config(checkpoint / "model_config.json")


@pytest.fixture
def load(config, tmp_path):
    def load(tensors: dict[str, torch.Tensor]) -> AudioModel:
        path = tmp_path / "model.safetensors"
        save_file({name: tensor.clone().contiguous() for name, tensor in tensors.items()}, path)
        return load_model(config, T5_WIDTH, path)

    return load


def _bases(tensors: dict[str, torch.Tensor]) -> list[str]:
    """Prefixes of the weight-normalised weights."""
    return [name.removesuffix("weight_g") for name in tensors if name.endswith(".weight_g")]


def _weight(tensors: dict[str, torch.Tensor], base: str) -> torch.Tensor:
    return _product(tensors[base + "weight_g"], tensors[base + "weight_v"])


def _product(magnitude: torch.Tensor, direction: torch.Tensor) -> torch.Tensor:
    """The weight `g · v / ‖v‖` that weight normalisation stands for, the norm taken over all axes but the first."""
    return magnitude * direction / direction.flatten(1).norm(dim=1)[:, None, None]


def _same(model: AudioModel, expected: dict[str, torch.Tensor], skip: tuple[str, ...] = ()) -> None:
    tensors = model.state_dict()
    assert tensors.keys() == expected.keys()
    for name, tensor in tensors.items():
        assert tensor.dtype == torch.float32
        if not name.endswith(skip):
            torch.testing.assert_close(tensor, expected[name], rtol=0, atol=0, msg=name)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_precisions(load, stored, dtype):
    converted = {name: tensor.to(dtype) for name, tensor in stored.items()}
    _same(load(converted), {name: tensor.float() for name, tensor in converted.items()})


def test_mixed_precision(load, stored):
    kinds = (torch.float16, torch.bfloat16, torch.float32)
    converted = {name: tensor.to(kinds[i % 3]) for i, (name, tensor) in enumerate(stored.items())}
    _same(load(converted), {name: tensor.float() for name, tensor in converted.items()})


def test_newer_names_of_weight_norm(load, stored):
    renamed = dict(stored)
    for base in _bases(stored):
        for old, new in zip(FLAT, PARAMETRIZED, strict=True):
            renamed[base + new] = renamed.pop(base + old)
    _same(load(renamed), stored)


def test_newer_names_are_what_torch_writes():
    """The names stand for the magnitude and the direction in this order."""
    conv = torch.nn.utils.parametrizations.weight_norm(torch.nn.Conv1d(3, 4, 5))
    tensors = conv.state_dict()
    assert tensors[PARAMETRIZED[0]].shape == (4, 1, 1)
    assert tensors[PARAMETRIZED[1]].shape == (4, 3, 5)
    torch.testing.assert_close(_product(tensors[PARAMETRIZED[0]], tensors[PARAMETRIZED[1]]), conv.weight)


@pytest.mark.parametrize("share", [1, 2])
def test_weight_norm_removed(load, stored, share):
    """Of all weights or of every second one, and with filters of zeros, which have no direction."""
    removed, weights = dict(stored), {}
    for base in _bases(stored)[::share]:
        weight = _weight(stored, base)
        weight[-1] = 0
        removed[base + "weight"] = weights[base] = weight
        for name in FLAT:
            del removed[base + name]
    model = load(removed)
    normed = {f"{name}.": module for name, module in model.named_modules() if isinstance(module, WeightNormConv)}
    assert normed.keys() >= weights.keys()
    for base, module in normed.items():
        torch.testing.assert_close(module.weight, weights.get(base, _weight(stored, base)), rtol=1e-6, atol=1e-8)
        assert base not in weights or not module.weight[-1].any()
    _same(model, stored, skip=FLAT)


def test_constants_may_be_absent(load, stored):
    constants = {name for name in stored if name.endswith((".inv_freq", "_norm.beta"))}
    assert len(constants) == 7
    _same(load({name: tensor for name, tensor in stored.items() if name not in constants}), stored)


def test_constants_that_are_stored_are_used(load, stored):
    """As the reference does, even where somebody rounded them."""
    name = "model.model.transformer.rotary_pos_emb.inv_freq"
    changed = stored | {name: stored[name] * 1.5}
    assert torch.equal(load(changed).state_dict()[name], changed[name])


def test_a_sharded_checkpoint(config, stored, tmp_path):
    names = sorted(stored)
    shards = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for file, part in shards.items():
        save_file({name: stored[name].contiguous() for name in part}, tmp_path / file)
    places = {name: file for file, part in shards.items() for name in part}
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": places}))
    _same(load_model(config, T5_WIDTH, tmp_path / "model.safetensors"), stored)
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(
        CheckpointError, match=r"lacks model-00002-of-00002\.safetensors, which model\.safetensors\.index\.json"
    ):
        load_model(config, T5_WIDTH, tmp_path / "model.safetensors")
    for content, match in (
        ({"weight_map": {"a": "../other.safetensors"}}, r"names '\.\./other\.safetensors', expected"),
        ({"weight_map": {"a": 1}}, "names '1', expected"),
        ({"weight_map": []}, "names no files"),
        ([], "names no files"),
    ):
        index.write_text(json.dumps(content))
        with pytest.raises(CheckpointError, match=match):
            load_model(config, T5_WIDTH, tmp_path / "model.safetensors")


def _only(*starts: str):
    return lambda tensors: {name: tensor for name, tensor in tensors.items() if name.startswith(starts)}


def _stripped(prefix: str):
    return lambda tensors: {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}


def _named(*names: str):
    return lambda tensors: {name: torch.zeros(2, 2) for name in names}


def _added(*names: str):
    return lambda tensors: tensors | _named(*names)(tensors)


ATTENTION = "model.model.transformer.layers.0.self_attn.to_qkv"

UNUSABLE = {
    "transformer alone": (_only("model."), "it is the transformer alone"),
    "transformer alone, bare": (_stripped("model.model."), "it is the transformer alone"),
    "transformer alone, half bare": (_stripped("model."), "it is the transformer alone"),
    "no autoencoder": (_only("model.", "conditioner."), "it is a model without its autoencoder"),
    "autoencoder alone": (_only("pretransform."), "it is an autoencoder alone"),
    "autoencoder alone, bare": (_stripped("pretransform.model."), "it is an autoencoder alone"),
    "conditioners alone": (_only("conditioner."), "it is conditioners alone"),
    "LoRA of peft": (
        _named(f"base_model.model.{ATTENTION}.lora_A.weight", f"base_model.model.{ATTENTION}.lora_B.weight"),
        "it is a LoRA",
    ),
    "LoRA of kohya": (
        _named("lora_unet_to_qkv.lora_down.weight", "lora_unet_to_qkv.lora_up.weight", "lora_unet_to_qkv.alpha"),
        "a LoRA",
    ),
    "LoRA beside the weights": (_added(f"{ATTENTION}.lora_down.weight", f"{ATTENTION}.lora_up.weight"), "it is a LoRA"),
    "LoRA as a parametrization": (_added(f"{ATTENTION}.parametrizations.weight.0.lora_A"), "it is a LoRA"),
    "Diffusers, transformer": (_named("transformer_blocks.0.attn1.to_q.weight", "proj_in.weight"), "in the Diffusers layout"),
    "Diffusers, autoencoder": (_named("encoder.block.0.conv1.weight_g", "decoder.conv1.weight_v"), "in the Diffusers layout"),
    "Diffusers, conditioners": (_named("start_number_conditioner.time_positional_proj.weight"), "in the Diffusers layout"),
    "T5": (_named("shared.weight", "encoder.block.0.layer.0.SelfAttention.q.weight"), "it is a T5 text encoder.*--t5"),
    "own text encoder": (
        _added("conditioner.conditioners.prompt.model.shared.weight"),
        "holds a text encoder of its own, trained with the rest",
    ),
    "quantized": (_added(f"{ATTENTION}.weight.absmax", f"{ATTENTION}.weight.quant_map"), "it is quantized"),
    "nothing": (lambda tensors: {}, "it holds no weights of a model"),
}


@pytest.mark.parametrize("layout", UNUSABLE)
def test_layouts_that_cannot_be_used(load, stored, layout):
    change, match = UNUSABLE[layout]
    with pytest.raises(CheckpointError, match=match) as caught:
        load(change(stored))
    assert len(str(caught.value)) < 600
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", [torch.int8, torch.uint8, torch.float8_e4m3fn])
def test_weights_of_eight_bits(load, stored, kind):
    name = f"{ATTENTION}.weight"
    with pytest.raises(
        CheckpointError, match=rf"holds {name} as (I8|U8|F8_E4M3), expected single or half precision or bfloat16"
    ):
        load(stored | {name: stored[name].to(kind)})


def test_a_weight_given_twice(load, stored):
    with pytest.raises(CheckpointError, match=rf"not in the configured model: {NORMED}\.weight"):
        load(stored | {f"{NORMED}.weight": _weight(stored, f"{NORMED}.")})


def test_half_a_weight(load, stored):
    with pytest.raises(CheckpointError, match=rf"missing: {NORMED}\.weight_g$"):
        load({name: tensor for name, tensor in stored.items() if name != f"{NORMED}.weight_g"})


def test_a_misshapen_plain_weight(load, stored):
    removed = {name: tensor for name, tensor in stored.items() if not name.startswith(f"{NORMED}.weight")}
    with pytest.raises(CheckpointError, match=rf"misshapen: {NORMED}\.weight \[16, 8, 5\], expected \[16, 8, 7\]"):
        load(removed | {f"{NORMED}.weight": torch.ones(16, 8, 5)})


def test_weights_of_another_model(config, load, stored):
    """The weights of a larger model beside this configuration."""
    block = "model.model.transformer.layers.1."
    more = {name.replace(block, block.replace("1", "2")): tensor for name, tensor in stored.items() if name.startswith(block)}
    with pytest.raises(CheckpointError, match=r"a transformer of 3 blocks and 64 channels, expected one of 2 blocks"):
        load(stored | more)


def test_sizes_are_compared_before_memory_is_taken(config, stored, tmp_path):
    """A configuration of enormous networks beside ordinary weights ends with a message, not without memory."""
    import dataclasses

    dit = dataclasses.replace(config.model.diffusion.config, embed_dim=1 << 16, num_heads=1 << 10, depth=64)
    diffusion = dataclasses.replace(config.model.diffusion, config=dit)
    huge = dataclasses.replace(config, model=dataclasses.replace(config.model, diffusion=diffusion))
    save_file(stored, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"of 2 blocks and 64 channels, expected one of 64 blocks and 65536"):
        load_model(huge, T5_WIDTH, tmp_path / "model.safetensors")


def test_a_t5_of_another_width_is_what_the_message_is_about(config, stored, tmp_path):
    save_file(stored, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"missing: .*prompt\.proj_out\.bias.*T5 encoder is not as wide.*--t5"):
        load_model(config, 48, tmp_path / "model.safetensors")


def _header(text: bytes, size: int | None = None) -> bytes:
    return struct.pack("<Q", len(text) if size is None else size) + text


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "it is empty"),
        (b"\1\2\3", "it has only 3 bytes"),
        (b"\0" * 5000, "zero bytes, as an interrupted download"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:aa\nsize 1676829212\n", "a Git LFS pointer.*git lfs pull"),
        (b"<!doctype html><html><head><title>Sign in</title>", r"a web page \(HTML\)"),
        (b"\xef\xbb\xbf\n <HTML><body>404</body>", r"a web page \(HTML\)"),
        (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "an XML page"),
        (b'{"error": "Entry not found"}', r"text \(JSON\)"),
        (b"PK\x03\x04" + b"\0" * 60, "pickled checkpoint or an archive"),
        (b"\x80\x02}q\x00." + b"." * 60, "pickled checkpoint or an archive"),
        (b"GGUF\3\0\0\0" + b"\0" * 60, "a GGUF file"),
        (b"\x1f\x8b\x08" + b"a" * 60, "compressed"),
        (_header(b'{"a":', 1 << 40), "does not begin with the header"),
        (_header(b"{}", 4000), "cut short: found 10 bytes, its header alone has 4008"),
        (_header(b"{]"), "its header is damaged"),
        (_header(b"[1, 2]"), "its header is damaged"),
        (
            _header(b'{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}') + b"\0" * 7,
            "cut short: found 70 bytes, expected 79",
        ),
        (_header(b'{"a":{"dtype":"F99","shape":[4],"data_offsets":[0,16]}}') + b"\0" * 16, "cannot be read as safetensors"),
        (_header(b'{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,99]}}') + b"\0" * 99, "cannot be read as safetensors"),
        (_header(b"{}"), "it holds no weights of a model"),
    ],
)
def test_files_that_are_something_else(config, tmp_path, content, match):
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=match) as caught:
        load_model(config, T5_WIDTH, path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_stops_anywhere(config, checkpoint, tmp_path):
    whole = (checkpoint / "model.safetensors").read_bytes()
    path = tmp_path / "model.safetensors"
    for size in (1, 8, 9, 5000, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(CheckpointError, match=r"cut short|only 1 bytes"):
            load_model(config, T5_WIDTH, path)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["model_index.json", "transformer/config.json", "vae/model.safetensors"], "it is in the Diffusers layout"),
        (["adapter_config.json", "adapter_model.safetensors"], "it is an adapter"),
        (["model_config.json", "model.gguf"], "it holds model.gguf, another format"),
        (["model_config.json", "onnx/dit.onnx", "onnx/decoder.onnx"], "it holds onnx/decoder.onnx, another format"),
        (["model_config.json", "model.ckpt", "dit.onnx"], None),
        (["README.md"], None),
        ([], None),
    ],
)
def test_models_that_are_something_else(names, expected):
    """What is said beside the missing files, for a folder as for the listing of a repository."""
    found = other_model(names)
    assert found is None if expected is None else found is not None and found.startswith(expected)


def test_a_folder_of_another_layout(tmp_path, checkpoint):
    (tmp_path / "model_index.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"lacks model_config\.json.*it is in the Diffusers layout"):
        convert(tmp_path, checkpoint / "t5", tmp_path / "bundle")
