"""LoRAs merged into layers, against the programs that train them; `golden/make_lora_golden.py` has the layers and the files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from sao_onnx_convert.lora.adapter import read_adapter
from sao_onnx_convert.lora.merge import merge
from tests.conftest import GOLDEN

QKV = "model.model.transformer.layers.0.self_attn.to_qkv"
PROJ = "model.model.transformer.layers.0.ff.ff.0.proj"
MIX = "model.model.transformer.mix"
NUMBER = "conditioner.conditioners.seconds_total.embedder.embedding.1"


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(GOLDEN / "lora.npz") as file:
        return dict(file)


def _under(golden: Mapping[str, np.ndarray], place: str) -> dict[str, np.ndarray]:
    found = {name.removeprefix(f"{place}/"): array for name, array in golden.items() if name.startswith(f"{place}/")}
    assert found, place
    return found


def _cases(program: str) -> list[str]:
    with np.load(GOLDEN / "lora.npz") as file:
        return sorted({name.split("/")[1] for name in file.files if name.startswith(f"{program}/")})


@pytest.fixture
def net(golden) -> nn.Module:
    """Layers under the names of a model, with the golden weights."""
    root = nn.Module()
    layers: dict[str, nn.Module] = {QKV: nn.Linear(8, 12, bias=False), PROJ: nn.Linear(8, 10)}
    layers |= {MIX: nn.Conv1d(4, 6, 3), NUMBER: nn.Linear(5, 7)}
    for name, layer in layers.items():
        *parents, last = name.split(".")
        module = root
        for parent in parents:
            if not hasattr(module, parent):
                module.add_module(parent, nn.Module())
            module = getattr(module, parent)
        module.add_module(last, layer)
    root.load_state_dict({name: torch.from_numpy(array) for name, array in _under(golden, "base").items()})
    return root.requires_grad_(False)


def _compare(net: nn.Module, expected: Mapping[str, np.ndarray]) -> None:
    state = net.state_dict()
    for name, array in expected.items():
        np.testing.assert_allclose(state[name], array, rtol=1e-6, atol=1e-6, err_msg=name)


def _strengths(golden, place: str) -> list[str]:
    return sorted({name.split("/")[0] for name in _under(golden, place)})


def _tensors(golden, place: str) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(array) for name, array in _under(golden, place).items()}


def _files_of_stable_audio_tools(golden, case: str, folder: Path) -> list[Path]:
    """The files of a case as training wrote them."""
    paths: list[Path] = []
    while f"sat/{case}/config{len(paths)}" in golden:
        index = len(paths)
        paths.append(folder / f"{index}.safetensors")
        settings = {"lora_config": str(golden[f"sat/{case}/config{index}"])}
        save_file(_tensors(golden, f"sat/{case}/file{index}"), paths[-1], metadata=settings)
    return paths


@pytest.mark.parametrize("case", _cases("sat"))
def test_stable_audio_tools(golden, net, tmp_path, case):
    paths = _files_of_stable_audio_tools(golden, case, tmp_path)
    original = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    for name in _strengths(golden, f"sat/{case}/merged"):
        net.load_state_dict(original)
        several = [float(strength) for strength in name.split(",")]
        merge(net, [read_adapter(path, strength) for path, strength in zip(paths, several, strict=True)])
        _compare(net, _under(golden, f"sat/{case}/merged/{name}"))


@pytest.mark.parametrize("case", ["lora", "dora-cols", "bora-xs"])
def test_a_snapshot_of_stable_audio_tools(golden, net, tmp_path, case):
    """What a training writes where it cannot write safetensors."""
    snapshot = {
        "state_dict": _tensors(golden, f"sat/{case}/file0"),
        "lora_config": json.loads(str(golden[f"sat/{case}/config0"])),
    }
    torch.save(snapshot, tmp_path / "a.ckpt")
    merge(net, [read_adapter(tmp_path / "a.ckpt", 0.4)])
    _compare(net, _under(golden, f"sat/{case}/merged/0.4"))


@pytest.mark.parametrize("suffix", [".ckpt", ".safetensors"])
@pytest.mark.parametrize("case", ["lora", "dora"])
def test_loraw(golden, net, tmp_path, case, suffix):
    path = tmp_path / f"a{suffix}"
    (torch.save if suffix == ".ckpt" else save_file)(_tensors(golden, f"loraw/{case}/file0"), path)
    (tmp_path / "a.json").write_text(str(golden[f"loraw/{case}/config0"]))
    original = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    for strength in _strengths(golden, f"loraw/{case}/answers"):
        net.load_state_dict(original)
        merge(net, [read_adapter(path, float(strength))])
        for name, expected in _under(golden, f"loraw/{case}/answers/{strength}").items():
            answer = net.get_submodule(name)(torch.from_numpy(golden[f"loraw/inputs/{name}"]))
            np.testing.assert_allclose(answer, expected, rtol=1e-6, atol=1e-6, err_msg=f"{name} at {strength}")


@pytest.mark.parametrize(("settings", "name"), [(None, ""), ({"rank": 3, "alpha": 0}, "model_config"), ({}, "other")])
def test_loraw_without_its_alpha(golden, net, tmp_path, settings, name):
    """It is in no file of LoRAW: where it is not said, it is the rank."""
    save_file(_tensors(golden, "loraw/lora/file0"), tmp_path / "a.safetensors")
    if settings is not None:
        (tmp_path / f"{name}.json").write_text(json.dumps({"lora": settings}))
    notes: list[str] = []
    adapter = read_adapter(tmp_path / "a.safetensors", note=notes.append)
    assert {change.scale for change in adapter.layers.values()} == {1.0}
    assert len(notes) == (name != "model_config")
    assert all("does not say its alpha; taken as equal to its rank" in note for note in notes)


@pytest.mark.parametrize("case", _cases("peft"))
def test_peft(golden, net, tmp_path, case):
    save_file(_tensors(golden, f"peft/{case}/file0"), tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text(str(golden[f"peft/{case}/config0"]))
    original = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    for strength in _strengths(golden, f"peft/{case}/merged"):
        net.load_state_dict(original)
        merge(net, [read_adapter(tmp_path, float(strength))])
        _compare(net, _under(golden, f"peft/{case}/merged/{strength}"))


def test_a_file_of_a_peft_folder_is_the_folder(golden, tmp_path):
    save_file(_tensors(golden, "peft/lora/file0"), tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text(str(golden["peft/lora/config0"]))
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        adapter = read_adapter(tmp_path / name)
        assert adapter.name == tmp_path.name
        assert {change.scale for change in adapter.layers.values()} == {5 / 3}


@pytest.mark.parametrize("case", ["sat/bora", "loraw/dora", "peft/dora"])
def test_strength_zero_changes_nothing(golden, net, tmp_path, case):
    program = case.split("/")[0]
    if program == "sat":
        path = _files_of_stable_audio_tools(golden, "bora", tmp_path)[0]
    elif program == "loraw":
        path = tmp_path / "a.safetensors"
        save_file(_tensors(golden, f"{case}/file0"), path)
    else:
        path = tmp_path
        save_file(_tensors(golden, f"{case}/file0"), tmp_path / "adapter_model.safetensors")
        (tmp_path / "adapter_config.json").write_text(str(golden[f"{case}/config0"]))
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    merge(net, [read_adapter(path, 0)])
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())


@pytest.mark.parametrize("part", ["model", "model.model", "model.model.transformer"])
def test_a_lora_of_a_part(golden, net, tmp_path, part):
    """Its names begin where the part begins that it was trained on."""
    layers = (QKV, PROJ, MIX)
    tensors = _tensors(golden, "peft/lora/file0")
    tensors = {
        name.replace(f"model.model.{part}.", "model.model.", 1): tensor
        for name, tensor in tensors.items()
        if any(layer in name for layer in layers)
    }
    save_file(tensors, tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text(str(golden["peft/lora/config0"]))
    merge(net, [read_adapter(tmp_path)])
    expected = _under(golden, "peft/lora/merged/1.0")
    _compare(net, {f"{layer}.weight": expected[f"{layer}.weight"] for layer in layers})


def test_half_precision_and_bfloat16(golden, net, tmp_path):
    """Read as they are, whatever they were rounded to."""
    settings = {"lora_config": str(golden["sat/lora/config0"])}
    results = []
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        tensors = {name: tensor.to(torch.bfloat16).to(dtype) for name, tensor in _tensors(golden, "sat/lora/file0").items()}
        save_file(tensors, tmp_path / "a.safetensors", metadata=settings)
        changes = read_adapter(tmp_path / "a.safetensors").layers
        results.append(np.concatenate([change.down.ravel() for change in changes.values() if change.down is not None]))
    assert all(np.array_equal(result, results[0]) for result in results)
