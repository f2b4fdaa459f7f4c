"""LoRAs in a conversion, in the manifest and on the command line."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import json
import os
import shutil
from pathlib import Path

import pytest
import torch
import typer
from safetensors.torch import load_file, save_file
from torch import Tensor

from sao_onnx.bundle.bundle import Bundle, open_bundle
from sao_onnx.bundle.manifest import PRECISIONS, Lora
from sao_onnx.bundle.manifest_json import parse_manifest
from sao_onnx.cli.convert import convert as convert_command
from sao_onnx.errors import BundleError
from sao_onnx_convert import CheckpointError, Progress, convert
from sao_onnx_convert.family.stable_audio_open.networks.model import AudioModel
from sao_onnx_convert.family.stable_audio_open.pipeline import TorchPipeline

# The package has a function of the same name.
conversion = importlib.import_module("sao_onnx_convert.convert")

STRENGTHS = (0.5, -0.25)
LAYERS = {
    "model.transformer.layers.1.self_attn.to_qkv": "model.model.transformer.layers.1.self_attn.to_qkv",
    "model.transformer.layers.0.ff.ff.0.proj": "model.model.transformer.layers.0.ff.ff.0.proj",
    "model.to_cond_embed.0": "model.model.to_cond_embed.0",
    "model.preprocess_conv": "model.model.preprocess_conv",
    "conditioners.seconds_total.embedder.embedding.1": "conditioner.conditioners.seconds_total.embedder.embedding.1",
}
"""Layers by their names in a LoRA and in a checkpoint."""


@pytest.fixture(scope="module")
def loras(checkpoint, tmp_path_factory) -> list[Path]:
    """Two LoRAs of the miniature, as stable-audio-tools writes them, of ranks 3 and 2 and alpha 6."""
    folder = tmp_path_factory.mktemp("loras")
    weights = load_file(checkpoint / "model.safetensors")
    generator = torch.Generator().manual_seed(5)
    paths = []
    for rank in (3, 2):
        tensors = {}
        for name, place in LAYERS.items():
            matrix = weights[f"{place}.weight"].flatten(1)
            for part, shape in (("lora_A", (rank, matrix.shape[1])), ("lora_B", (matrix.shape[0], rank))):
                tensors[f"{name}.parametrizations.weight.0.{part}"] = 0.1 * torch.randn(shape, generator=generator)
        paths.append(folder / f"rank-{rank}.safetensors")
        save_file(tensors, paths[-1], metadata={"lora_config": json.dumps({"rank": rank, "alpha": 6, "adapter_type": "lora"})})
    return paths


@pytest.fixture(scope="module")
def by_hand(checkpoint, loras, tmp_path_factory) -> Path:
    """The miniature's checkpoint with both of them in its weights."""
    folder = Path(shutil.copytree(checkpoint, tmp_path_factory.mktemp("merged") / "checkpoint"))
    weights = load_file(folder / "model.safetensors")
    for path, rank, strength in zip(loras, (3, 2), STRENGTHS, strict=True):
        lora = load_file(path)
        for name, place in LAYERS.items():
            down, up = (lora[f"{name}.parametrizations.weight.0.{part}"] for part in ("lora_A", "lora_B"))
            weight = weights[f"{place}.weight"].float()
            change = strength * (6 / rank * (up @ down))
            weights[f"{place}.weight"] = (weight.flatten(1) + change).reshape(weight.shape)
    save_file(weights, folder / "model.safetensors")
    return folder


class _Reached(Exception):  # noqa: N818  It ends a conversion and is no error.
    pass


def _loaded(monkeypatch, checkpoint: Path, target: Path, loras=()) -> AudioModel:
    """The model of a conversion at the moment when graphs would be made of it: all that follows is computed from it."""
    caught = []

    def stop(folder, precisions, pipeline: TorchPipeline, segments, step):
        caught.append(pipeline.model)
        raise _Reached

    with monkeypatch.context() as patch:
        patch.setattr(conversion, "make_graphs", stop)
        with pytest.raises(_Reached):
            convert(checkpoint, checkpoint / "t5", target, loras=loras)
    return caught[0]


def _weights(model: AudioModel) -> dict[str, Tensor]:
    return model.state_dict()


def test_a_conversion_merges_before_it_makes_graphs(checkpoint, by_hand, loras, tmp_path, monkeypatch):
    plain = _weights(_loaded(monkeypatch, checkpoint, tmp_path / "plain"))
    expected = _weights(_loaded(monkeypatch, by_hand, tmp_path / "expected"))
    merged = _weights(_loaded(monkeypatch, checkpoint, tmp_path / "merged", list(zip(loras, STRENGTHS, strict=True))))
    assert merged.keys() == expected.keys()
    assert all(torch.equal(merged[name], expected[name]) for name in merged)
    changed = {name.removesuffix(".weight") for name in merged if not torch.equal(merged[name], plain[name])}
    assert changed == set(LAYERS.values())
    assert os.listdir(tmp_path) == []


def test_the_bundle_names_its_loras(checkpoint, loras, miniature, tmp_path, monkeypatch, manifest):
    """Graphs that were made before take the place of new ones, which take long to make."""

    def copy(folder, precisions, *others):
        shutil.copytree(miniature / "fp32", folder / "fp32")
        return tuple(graph for graph in manifest.graphs if graph.precision in precisions)

    steps: list[Progress] = []
    monkeypatch.setattr(conversion, "make_graphs", copy)
    bundle = convert(checkpoint, checkpoint / "t5", tmp_path / "a", loras=[loras[1], (loras[0], 0.5)], progress=steps.append)
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in loras]
    assert bundle.manifest.loras == (
        Lora("rank-2.safetensors", 1.0, digests[1]),
        Lora("rank-3.safetensors", 0.5, digests[0]),
    )
    assert [step.step for step in steps] == ["reading the weights", "merging LoRAs", "writing the manifest"]
    assert open_bundle(tmp_path / "a").manifest == bundle.manifest


@pytest.mark.slow
def test_the_bundle_is_that_of_a_checkpoint_merged_by_hand(checkpoint, by_hand, loras, tmp_path):
    """Byte for byte in both precisions, so what 8 bits were calibrated on was merged as well."""
    given = list(zip(loras, STRENGTHS, strict=True))
    hand = convert(by_hand, by_hand / "t5", tmp_path / "hand", precisions=PRECISIONS)
    bundle = convert(checkpoint, checkpoint / "t5", tmp_path / "bundle", precisions=PRECISIONS, loras=given)
    assert bundle.manifest.files == hand.manifest.files
    assert bundle.manifest.graphs == hand.manifest.graphs
    assert [(lora.name, lora.strength) for lora in bundle.manifest.loras] == [
        ("rank-3.safetensors", 0.5),
        ("rank-2.safetensors", -0.25),
    ]


def test_a_lora_of_another_model_costs_nothing(checkpoint, loras, tmp_path, monkeypatch):
    """It is refused before any weights are read."""
    tensors = load_file(loras[0])
    save_file({name.replace("layers.1", "layers.23"): t for name, t in tensors.items()}, tmp_path / "other.safetensors")
    monkeypatch.setattr(conversion, "load_model", lambda *arguments: pytest.fail("weights were read"))
    with pytest.raises(CheckpointError, match=r"other\.safetensors was made for another model"):
        convert(checkpoint, checkpoint / "t5", tmp_path / "bundle", loras=[tmp_path / "other.safetensors"])
    assert os.listdir(tmp_path) == ["other.safetensors"]


# The manifest.


@pytest.fixture
def manifest(miniature):
    return open_bundle(miniature).manifest


LORA = Lora("дождь.safetensors", -0.25, "ab" * 32)


def test_a_manifest_without_loras_is_what_it_was(miniature, manifest):
    """Releases that know of no LoRAs refuse unknown fields."""
    assert "loras" not in json.loads(manifest.to_json())
    assert manifest.loras == ()
    fingerprint = Bundle(miniature, manifest).fingerprint
    with_lora = dataclasses.replace(manifest, loras=(LORA,))
    assert parse_manifest(with_lora.to_json()) == with_lora
    stronger = dataclasses.replace(manifest, loras=(dataclasses.replace(LORA, strength=1.0),))
    assert len({fingerprint, Bundle(miniature, with_lora).fingerprint, Bundle(miniature, stronger).fingerprint}) == 3


@pytest.mark.parametrize(
    ("loras", "words"),
    [
        ([{"name": "a", "strength": 1, "sha256": "ab"}], r"loras\[0\]\.sha256: expected 64 hexadecimal digits"),
        ([{"name": "a", "strength": None, "sha256": "ab" * 32}], r"loras\[0\]\.strength: found None"),
        ([{"name": "a", "sha256": "ab" * 32}], r"loras\[0\]\.strength: missing"),
        ([{"name": "a", "strength": 1, "sha256": "ab" * 32}] * 257, "loras: found 257, expected 0 to 256"),
        ({}, "loras: found {}, expected a list"),
    ],
)
def test_manifests_that_are_refused(manifest, loras, words):
    with pytest.raises(BundleError, match=words):
        parse_manifest(json.dumps(json.loads(manifest.to_json()) | {"loras": loras}))


# The command.


def test_inspect(bundle, manifest, command):
    steering = dataclasses.replace(LORA, name="a\x1b[31m.safetensors", strength=1.0)
    changed = dataclasses.replace(manifest, loras=(LORA, steering))
    (bundle / "manifest.json").write_text(changed.to_json(), encoding="utf-8")
    shown = command("inspect", bundle).stdout
    assert "lora        дождь.safetensors at strength -0.25, SHA-256 abababababab\n" in shown
    assert "\x1b" not in shown
    assert json.loads(command("inspect", bundle, "--json").stdout)["loras"][0] == dataclasses.asdict(LORA)


def test_the_option(checkpoint, loras, tmp_path, monkeypatch, command):
    assert "FILE[:STRENGTH]" in command("convert", "--help").stdout
    monkeypatch.chdir(tmp_path)
    with pytest.raises(typer.BadParameter, match="the strength is 'nan', expected a finite number"):
        convert_command(str(checkpoint), Path("bundle"), lora=[f"{loras[0]}:nan"])
    with pytest.raises(CheckpointError, match=r"^nothing\.safetensors is no file; expected a LoRA"):
        convert_command(str(checkpoint), Path("bundle"), lora=[f"{loras[0]}:0.5", "nothing.safetensors:0.5"])
    assert os.listdir(tmp_path) == []
