"""Memory that a training snapshot of the full size takes: reading it, and its whole conversion.

    python -m bench.fine_tunes [--folder scratch/bench] [--model models/stable-audio-open-small]

It writes a checkpoint of random weights and the snapshot that a training of it would leave, as Lightning saves it with the
reference's wrapper: the model in training, the average of its transformer, and the two moments of its optimizer. Every figure
is that of a process of its own.
"""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from bench.common import output_of, parser
from sao_onnx import load
from sao_onnx.runtime.machine import describe_machine
from sao_onnx_convert import convert
from sao_onnx_convert.family.stable_audio_open.networks.model import load_model
from sao_onnx_convert.family.stable_audio_open.synthetic import write_checkpoint, write_t5
from sao_onnx_convert.source.config import load_config

SNAPSHOT = "epoch=374-step=3000.ckpt"

RANK = 16

TASKS = {
    "nothing": "the converter imported",
    "plain": "the plain file read",
    "snapshot": "the snapshot read",
    "both": "both read, and compared: the weights are the same",
    "convert": "the snapshot converted, in single precision",
    "lora": "the snapshot converted in 8 bits, with a LoRA of rank 16 on every block merged into it",
    "clip": "a clip of that, in eight steps",
}


def main() -> None:
    """Measure, and write the report."""
    arguments = parser(__doc__)
    arguments.add_argument("--task", help="what a process of its own does")
    options = arguments.parse_args()
    folder = options.folder / "fine-tunes"
    if options.task:
        _run(options.task, folder, options.model)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
        return
    lines = []
    for task, description in {"write": "", **TASKS}.items():
        command = [sys.executable, "-m", "bench.fine_tunes", "--folder", str(options.folder), "--model", str(options.model)]
        peak = int(output_of([*command, "--task", task]).splitlines()[-1])
        if description:
            lines.append(f"| {description} | {peak / 1e9:.2f} |")
    size, plain = ((folder / name).stat().st_size / 1e9 for name in (f"snapshot/{SNAPSHOT}", "plain/model.safetensors"))
    machine = describe_machine()
    text = (
        f"# Memory of a fine-tune\n\nA snapshot of a training at full size ({size:.2f} GB: the model, the average of its "
        f"transformer, two moments of its optimizer), and the plain file of the same weights ({plain:.2f} GB), on "
        f"{machine.processor}, {machine.cores} cores: `python -m bench.fine_tunes`.\n\n"
        "| process | GB at its peak |\n|---|---|\n"
    )
    (options.results / "fine-tunes.md").write_text(text + "\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


def _run(task: str, folder: Path, model: Path) -> None:
    plain, snapshot = folder / "plain", folder / "snapshot"
    if task == "write":
        _write(model, plain, snapshot)
    elif task == "plain":
        _read(plain / "model.safetensors", plain)
    elif task == "snapshot":
        _read(snapshot / SNAPSHOT, plain)
    elif task == "both":
        _compare(_read(plain / "model.safetensors", plain), _read(snapshot / SNAPSHOT, plain))
    elif task == "convert":
        convert(snapshot, plain / "t5", folder / "bundle", force=True)
    elif task == "lora":
        adapter = _lora(plain / "model.safetensors", folder / "lora.safetensors")
        convert(snapshot, plain / "t5", folder / "bundle", precisions=["int8"], loras=[(adapter, 0.8)], force=True)
    elif task == "clip":
        engine = load(folder / "bundle", keep_loaded=False)
        clip = engine.generate("drums", seed=1, steps=8)
        if not engine.manifest.loras or not np.isfinite(clip.samples).all():
            raise SystemExit("the bundle has no LoRA, or its clip is none")


def _write(model: Path, plain: Path, snapshot: Path) -> None:
    t5_config = json.loads((model / "t5_config.json").read_text(encoding="utf-8"))
    config = json.loads((model / "model_config.json").read_text(encoding="utf-8"))
    if not (plain / "t5" / "tokenizer.json").exists():
        write_checkpoint(plain, config, t5_config["d_model"])
        write_t5(plain / "t5", t5_config)
    if (snapshot / SNAPSHOT).exists():
        return
    snapshot.mkdir(exist_ok=True)
    (snapshot / "base_model_config.json").write_text(json.dumps(config), encoding="utf-8")
    tensors = load_file(plain / "model.safetensors")
    transformer = {name: tensor for name, tensor in tensors.items() if name.startswith("model.")}
    state = {f"diffusion.{name}": tensor + 1 if name in transformer else tensor for name, tensor in tensors.items()}
    state |= {f"diffusion_ema.ema_{name}": tensor for name, tensor in transformer.items()}
    moments = {
        index: {"step": torch.tensor(3000.0), "exp_avg": torch.zeros_like(tensor), "exp_avg_sq": torch.zeros_like(tensor)}
        for index, tensor in enumerate(transformer.values())
    }
    torch.save(
        {"epoch": 374, "state_dict": state, "optimizer_states": [{"state": moments, "param_groups": [{"lr": 1e-5}]}]},
        snapshot / SNAPSHOT,
    )


def _lora(weights: Path, path: Path) -> Path:
    """A LoRA as stable-audio-tools writes it, on the matrices of every block."""
    tensors, generator = {}, torch.Generator().manual_seed(1)
    with safe_open(weights, "pt") as file:
        for name in sorted(file.keys()):
            shape = file.get_slice(name).get_shape()
            if ".layers." not in name or not name.startswith("model.") or not name.endswith(".weight") or len(shape) != 2:
                continue
            layer = f"{name.removesuffix('.weight')}.parametrizations.weight.0"
            tensors[f"{layer}.lora_A"] = torch.randn(RANK, shape[1], generator=generator) / RANK
            tensors[f"{layer}.lora_B"] = torch.randn(shape[0], RANK, generator=generator) / 1000
    settings = {"adapter_type": "lora", "rank": RANK, "alpha": RANK}
    save_file(tensors, path, metadata={"lora_config": json.dumps(settings)})
    return path


def _read(path: Path, plain: Path) -> dict[str, torch.Tensor]:
    width = json.loads((plain / "t5" / "config.json").read_text(encoding="utf-8"))["d_model"]
    return load_model(load_config(plain / "model_config.json"), width, path).state_dict()


def _compare(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    if one.keys() != other.keys() or not all(torch.equal(tensor, other[name]) for name, tensor in one.items()):
        raise SystemExit("the snapshot gives other weights than the plain file")


if __name__ == "__main__":
    main()
