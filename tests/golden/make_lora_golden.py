"""Write `lora.npz`: what the programs that train LoRAs make of small layers with one. README.md says how to run it.

    python tests/golden/make_lora_golden.py STABLE_AUDIO_TOOLS LORAW tests/golden/lora.npz

The first two are folders with the packages `stable_audio_tools` (0.0.20) and `loraw`; PEFT is imported as it is installed.
"""

# mypy: ignore-errors
# The references have no types.

from __future__ import annotations

import argparse
import importlib
import json
import sys
import tempfile
import types
from pathlib import Path
from unittest.mock import MagicMock

import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn

STRENGTHS = (1.0, 0.4, -0.75, 0.0, 1.7)
TYPES = [f"{kind}{end}" for end in ("", "-xs") for kind in ("lora", "dora-rows", "dora-cols", "bora")]


class Net(nn.Module):
    """Layers of every kind that a LoRA changes, under the names of a model of stable-audio-tools."""

    def __init__(self):
        super().__init__()
        layer = nn.ModuleDict(
            {
                "self_attn": nn.ModuleDict({"to_qkv": nn.Linear(8, 12, bias=False)}),
                "ff": nn.ModuleDict({"ff": nn.Sequential(nn.ModuleDict({"proj": nn.Linear(8, 10)}))}),
            }
        )
        transformer = nn.ModuleDict({"layers": nn.ModuleList([layer]), "mix": nn.Conv1d(4, 6, 3)})
        self.model = nn.ModuleDict({"model": nn.ModuleDict({"transformer": transformer})})
        embedder = nn.ModuleDict({"embedding": nn.Sequential(nn.Identity(), nn.Linear(5, 7))})
        self.conditioner = nn.ModuleDict(
            {"conditioners": nn.ModuleDict({"seconds_total": nn.ModuleDict({"embedder": embedder})})}
        )


def fresh():
    """The same layers every time."""
    torch.manual_seed(0)
    return Net().requires_grad_(False)


def scatter(parameters, seed):
    """Give trained parameters values: zeros and ones say little."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in parameters:
        noise = torch.randn(parameter.shape, generator=generator)
        parameter.data.copy_(parameter.data * (1 + 0.2 * noise) + 0.1 * noise)


def modules_of(folder, package, names, skipped):
    """Modules of a package, whose own `__init__` is not run, nor the libraries that are not used here."""
    for name in skipped:
        sys.modules[name] = MagicMock()
    sys.path.insert(0, str(folder))
    parts = package.split(".")
    for end in range(1, len(parts) + 1):
        name = ".".join(parts[:end])
        sys.modules[name] = types.ModuleType(name)
        sys.modules[name].__path__ = [str(folder.joinpath(*parts[:end]))]
    return [importlib.import_module(f"{package}.{name}") for name in names]


def stable_audio_tools(folder, out):
    """Every type of adapter: a file as training writes it, and the layers that generation computes with."""
    model, utils, loader = modules_of(folder, "stable_audio_tools.models.lora", ("model", "utils", "loader"), ())

    def train(path, kind, rank, alpha, seed):
        net = fresh()
        options = {"rank": rank, "lora_alpha": alpha, "adapter_type": kind}
        make = model.LoRAParametrization
        config = {
            nn.Linear: {"weight": lambda layer, **more: make.from_linear(layer, **options, **more)},
            nn.Conv1d: {"weight": lambda layer, **more: make.from_conv1d(layer, **options, **more)},
        }
        model.add_lora(net.model, config)
        model.add_lora(net.conditioner, config)
        scatter([*utils.get_lora_params(net.model), *utils.get_lora_params(net.conditioner)], seed)
        tensors = {**utils.get_lora_state_dict(net.model), **utils.get_lora_state_dict(net.conditioner)}
        utils.save_lora_safetensors(tensors, {"rank": rank, "alpha": alpha, "adapter_type": kind, "dropout": 0.0}, path)

    def record(case, paths, strengths):
        for index, path in enumerate(paths):
            tensors, config = utils.load_lora_checkpoint(path)
            keep(out, f"{case}/file{index}", tensors)
            out[f"{case}/config{index}"] = np.array(json.dumps(config))
        for name, several in strengths.items():
            net = fresh()
            loader.load_and_apply_loras(net, [str(path) for path in paths], "diffusion_cond")
            for index, strength in enumerate(several):
                model.set_lora_strength(net.model, strength, lora_index=index)
                model.set_lora_strength(net.conditioner, strength, lora_index=index)
            # Its own `merge_lora` fails: it changes a dictionary over which it iterates.
            layers = {place: layer for place, layer in net.named_modules() if isinstance(layer, (nn.Linear, nn.Conv1d))}
            keep(out, f"{case}/merged/{name}", {f"{place}.weight": layer.weight for place, layer in layers.items()})

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for seed, kind in enumerate(TYPES, start=1):
            train(folder / f"{kind}.safetensors", kind, 3, 5, seed)
            record(f"sat/{kind}", [folder / f"{kind}.safetensors"], {str(s): [s] for s in STRENGTHS})
        # The first releases wrote both kinds of DoRA as "dora", with magnitudes of two axes.
        for kind, axis in (("dora-rows", 1), ("dora-cols", 0)):
            tensors, config = utils.load_lora_checkpoint(folder / f"{kind}.safetensors")
            old = {name: t.unsqueeze(axis) if name.endswith(".magnitude") else t for name, t in tensors.items()}
            path = folder / f"old-{kind}.safetensors"
            utils.save_lora_safetensors(old, config | {"adapter_type": "dora"}, path)
            record(f"sat/old-{kind}", [path], {"0.4": [0.4]})
        # The bases of the second are those of the model without the first.
        record(
            "sat/stack",
            [folder / f"{kind}.safetensors" for kind in ("dora-rows", "bora-xs", "lora")],
            {"0.4,1.7,-0.75": [0.4, 1.7, -0.75]},
        )


def loraw(folder, out):
    """LoRA and DoRA: the file, and what the layers answer, because DoRA scales the bias as well."""
    (network,) = modules_of(folder, "loraw", ("network",), ("bitsandbytes", "stable_audio_tools.models.utils"))
    # Its DoRA does not work for convolutions.
    for case, decompose, whitelist in (("lora", False, ["transformer"]), ("dora", True, ["layers"])):
        for strength in STRENGTHS:
            if strength == 0 and decompose:
                continue  # It would keep the magnitudes; here it means none of it at all.
            net = fresh()
            wrapper = network.LoRAWrapper(
                net, component_whitelist=whitelist, multiplier=strength, lora_dim=3, alpha=5, decompose=decompose
            )
            scatter(wrapper.residual_modules.parameters(), 20)
            wrapper.activate()
            keep(out, f"loraw/{case}/file0", wrapper.residual_modules.state_dict())
            for name, layer in wrapper.net.lora_modules.items():
                shape = (2, 4, 9) if "mix" in name else (5, 8)
                x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
                keep(out, "loraw/inputs", {name.replace("/", "."): x})
                keep(out, f"loraw/{case}/answers/{strength}", {name.replace("/", "."): layer(x)})
        out[f"loraw/{case}/config0"] = np.array(json.dumps({"lora": {"rank": 3, "alpha": 5, "multiplier": 1.0}}))


def peft(out):
    """LoRA with each option that changes numbers: the folder's files, and the merged layers."""
    from peft import LoraConfig, get_peft_model

    everything = ["to_qkv", "proj", "mix", "embedding.1"]
    cases = {
        "lora": {},
        "patterns": {
            "rank_pattern": {"to_qkv": 2, r"ff\.ff\.\d+\.proj": 4},
            "alpha_pattern": {r"^model.model.transformer.layers.0.self_attn.to_qkv": 9, "mix": 1},
        },
        "rslora": {"use_rslora": True},
        "dora": {"use_dora": True},
        "fan-in-fan-out": {"fan_in_fan_out": True},
    }
    for seed, (case, options) in enumerate(cases.items(), start=40):
        for strength in STRENGTHS:
            if strength == 0:
                continue  # A DoRA of PEFT would keep the magnitudes, likewise.
            net = get_peft_model(fresh(), LoraConfig(r=3, lora_alpha=5, target_modules=everything, **options))
            scatter([p for name, p in net.named_parameters() if "lora_" in name], seed)
            with tempfile.TemporaryDirectory() as temporary:
                net.save_pretrained(temporary)
                keep(out, f"peft/{case}/file0", load_file(Path(temporary) / "adapter_model.safetensors"))
                out[f"peft/{case}/config0"] = np.array((Path(temporary) / "adapter_config.json").read_text())
            for layer in net.modules():
                if hasattr(layer, "scale_layer"):
                    layer.scale_layer(strength)
            keep(out, f"peft/{case}/merged/{strength}", net.merge_and_unload().state_dict())


def keep(out, place, tensors):
    """Add tensors to what is written."""
    for name, tensor in tensors.items():
        out[f"{place}/{name}"] = tensor.detach().cpu().numpy()


def main():
    """Write the golden data."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("stable_audio_tools", "loraw", "output"):
        parser.add_argument(name, type=Path)
    options = parser.parse_args()
    out = {}
    keep(out, "base", fresh().state_dict())
    peft(out)
    stable_audio_tools(options.stable_audio_tools, out)
    loraw(options.loraw, out)
    np.savez_compressed(options.output, **out)


if __name__ == "__main__":
    main()
