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
from sao_onnx_convert.lora.low_rank import Adapter
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


def _tensors(golden, place: str) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(array) for name, array in _under(golden, place).items()}


def _files_of_stable_audio_tools(golden, case: str, folder: Path) -> list[Path]:
    """The files of a case as training wrote them."""
    paths = []
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
    strengths = {name.split("/")[0] for name in _under(golden, f"sat/{case}/merged")}
    for name in strengths:
        net.load_state_dict(original)
        several = [float(strength) for strength in name.split(",")]
        merge(net, [read_adapter(path, strength) for path, strength in zip(paths, several, strict=True)])
        _compare(net, _under(golden, f"sat/{case}/merged/{name}"))
    assert len(strengths) == (5 if "-" not in case or case in ("dora-rows", "dora-cols") or case.endswith("xs") else 1) or (
        case == "stack"
    )


def _loraw(golden, case: str, path: Path) -> Adapter:
    torch.save(_tensors(golden, f"loraw/{case}/file0"), path)
    return read_adapter(path)
