"""The converter on the miniature checkpoint: what it writes, what it refuses, what it leaves behind."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from safetensors.torch import load_file, save_file

import sao_onnx
import sao_onnx_convert
from sao_onnx.bundle.bundle import open_bundle
from sao_onnx.bundle.manifest import Base
from sao_onnx_convert import (
    CheckpointError,
    CheckpointNotFoundError,
    ConversionError,
    ParityError,
    Progress,
    TargetExistsError,
    UnsupportedModelError,
    convert,
)
from sao_onnx_convert.family.stable_audio_open.networks.autoencoder import Decoder, split_decoder
from sao_onnx_convert.family.stable_audio_open.pipeline import TorchPipeline
from sao_onnx_convert.source.config import load_config
from sao_onnx_convert.source.config_fields import OobleckDecoderConfig
from tests.conftest import GOLDEN, ROOT


@pytest.fixture
def copy(checkpoint, tmp_path) -> Path:
    """The miniature's checkpoint, to be damaged."""
    return Path(shutil.copytree(checkpoint, tmp_path / "checkpoint"))


@pytest.fixture(scope="module")
def converted(checkpoint, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("converted")
    (checkpoint / "LICENSE.md").write_text("Do good.")
    seen: list[Progress] = []
    bundle = convert(checkpoint, checkpoint / "t5", folder / "bundle", progress=seen.append)
    (checkpoint / "LICENSE.md").unlink()
    assert [step.index for step in seen] == list(range(seen[0].total))
    assert os.listdir(folder) == ["bundle"]
    return bundle.folder


def test_the_clip_is_the_reference_s(converted):
    """The golden data was computed with this checkpoint; test_golden compares the committed bundle with all of it."""
    with np.load(GOLDEN / "golden.npz") as golden:
        engine = sao_onnx.load(converted, threads=2)
        clip = engine.generate(
            str(golden["prompts"][0]), seconds=float(golden["seconds_total"][0]), seed=42, full_window=True, normalize="none"
        )
        np.testing.assert_allclose(clip.latents[None], golden["pingpong_latents"], rtol=0, atol=5e-5)
        np.testing.assert_allclose(
            clip.samples[None][..., :: int(golden["audio_stride"])], golden["pingpong_audio"], rtol=0, atol=5e-6
        )


def _edit(path: Path, change) -> None:
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


def _refused(checkpoint: Path, error: type[Exception], match: str, t5: Path | None = None) -> None:
    target = checkpoint.parent / "bundle"
    with pytest.raises(error, match=match):
        convert(checkpoint, t5 or checkpoint / "t5", target)
    assert sorted(p.name for p in checkpoint.parent.iterdir() if "bundle" in p.name) == []


def test_the_committed_miniature_is_what_the_converter_writes(converted, miniature):
    new, old = (sao_onnx.load(folder, precision="fp32", threads=2) for folder in (converted, miniature))
    one, other = (engine.generate("slow rain", seconds=1, seed=3, normalize="none") for engine in (new, old))
    np.testing.assert_allclose(one.latents, other.latents, rtol=0, atol=1e-5)
    np.testing.assert_allclose(one.samples, other.samples, rtol=0, atol=1e-5)
    assert new.manifest.graphs[0].inputs == old.manifest.graphs[0].inputs
    assert new.manifest.decoder == old.manifest.decoder


def test_a_snapshot_and_its_base_give_the_same_graphs(converted, checkpoint, tmp_path):
    """The average of a training, without the autoencoder and under other names: every graph has the same bytes."""
    plain = load_file(checkpoint / "model.safetensors")
    state = {"diffusion_ema.step": torch.tensor([9])}
    for name, tensor in plain.items():
        if name.startswith("model."):
            state |= {f"diffusion.{name}": tensor + 1, f"diffusion_ema.ema_model.{name.removeprefix('model.')}": tensor}
        elif name.startswith("conditioner."):
            state[f"diffusion.{name}"] = tensor
    folder = tmp_path / "bass"
    folder.mkdir()
    torch.save({"state_dict": state, "optimizer_states": [{"state": {0: torch.ones(3)}}]}, folder / "bass_e2.ckpt")
    shutil.copyfile(checkpoint / "model_config.json", folder / "bass_model_config.json")
    (folder / "LICENSE").write_text("Do good.")
    base = shutil.copytree(checkpoint, tmp_path / "base")
    (base / "LICENSE").write_text("Do well.")
    notes: list[str] = []
    bundle = convert(folder, checkpoint / "t5", tmp_path / "bundle", base=base, note=notes.append)
    graphs = [
        {file.path: file.sha256 for file in b.manifest.files if file.role != "license"}
        for b in (bundle, open_bundle(converted))
    ]
    assert graphs[0] == graphs[1]
    model = bundle.manifest.model
    assert (model.name, model.source, model.weights) == ("bass", "bass", "bass_e2.ckpt")
    assert model.base == Base("base", None, None, ("autoencoder",))
    licenses = [bundle.path(file.path).read_text() for file in bundle.manifest.files if file.role == "license"]
    assert sorted(licenses) == ["Do good.", "Do well."]
    assert notes[-2:] == [
        "averaged weights (EMA) are taken of the transformer; --no-ema takes the others",
        f"the autoencoder is of {base}",
    ]


def test_generates_what_pytorch_generates(converted, checkpoint):
    pipeline = TorchPipeline.load(checkpoint, checkpoint / "t5")
    latents = pipeline.sample(*pipeline.condition("dark drums", {"seconds_total": 2.0}), seed=8, steps=8)
    clip = sao_onnx.load(converted).generate("dark drums", seconds=2, seed=8, full_window=True, normalize="none")
    np.testing.assert_allclose(clip.latents, latents[0], rtol=0, atol=1e-4)
    np.testing.assert_allclose(clip.samples, pipeline.decode(latents)[0], rtol=0, atol=1e-4)


def test_graphs(converted):
    """Dynamic batch and length everywhere, named tensors, external weights, nothing of this machine inside."""
    manifest = open_bundle(converted).manifest
    for graph in manifest.graphs:
        model = onnx.load(converted / graph.path)
        onnx.checker.check_model(model, full_check=True)
        assert graph.weights == (f"{graph.path}.data",)
        assert all("batch" in tensor.shape for tensor in graph.inputs)
        if graph.role != "number_conditioner":
            assert all(isinstance(tensor.shape[-1], str) or isinstance(tensor.shape[1], str) for tensor in graph.inputs[:1])
        text = (converted / graph.path).read_bytes()
        assert b".py" not in text
        assert str(Path.home()).encode() not in text


def test_manifest(converted):
    manifest = open_bundle(converted).manifest
    assert manifest.model.source.startswith("checkpoint")
    assert manifest.model.revision is None
    assert manifest.tools["torch"] == torch.__version__
    assert all(graph.tolerance is not None and 0 < graph.max_error < graph.tolerance for graph in manifest.graphs)
    assert (converted / "LICENSE.md").read_text() == "Do good."
    assert any(file.role == "license" for file in manifest.files)


def test_others_may_read_the_files(converted):
    assert len({path.stat().st_mode for path in converted.rglob("*") if path.is_file()}) == 1


def test_existing_target(checkpoint, tmp_path):
    target = tmp_path / "bundle"
    target.mkdir()
    (target / "precious.txt").write_text("mine")
    for force in (False, True):
        with pytest.raises(TargetExistsError, match="is not a bundle; choose another name"):
            convert(checkpoint, checkpoint / "t5", target, force=force)
    assert (target / "precious.txt").read_text() == "mine"


def test_force_replaces_a_bundle(checkpoint, bundle):
    with pytest.raises(TargetExistsError, match="use --force"):
        convert(checkpoint, checkpoint / "t5", bundle)
    (bundle / "manifest.json").write_text("{}")
    convert(checkpoint, checkpoint / "t5", bundle, force=True)
    assert list(open_bundle(bundle).verify())
    assert os.listdir(bundle.parent) == ["bundle"]


def test_unknown_precision(checkpoint, tmp_path):
    for precisions in (["fp32", "int3"], []):
        with pytest.raises(sao_onnx_convert.UnsupportedModelError, match="supported: int8, fp32"):
            convert(checkpoint, checkpoint / "t5", tmp_path / "bundle", precisions=precisions)


@pytest.mark.parametrize("suffix", [".ckpt", ".bin", ".pt"])
def test_bare_pickles_are_refused(copy, suffix):
    (copy / "model.safetensors").unlink()
    (copy / f"model{suffix}").write_bytes(b"\x80\x04")
    match = rf"model{suffix} cannot be read as a checkpoint: it is a pickle .*cannot be read without running it.*safetensors"
    _refused(copy, CheckpointError, match)
    with pytest.raises(CheckpointError, match=match):
        convert(copy / f"model{suffix}", copy / "t5", copy.parent / "x")


def test_missing_files(copy, tmp_path):
    _refused(tmp_path / "nothing here", CheckpointNotFoundError, "neither a folder nor a repository")
    (copy / "notes.txt").write_text("")
    _refused(copy / "notes.txt", CheckpointError, r"is a file that holds no weights; expected a \.safetensors or \.ckpt file")
    (copy / "model_config.json").unlink()
    _refused(copy, CheckpointError, r"lacks model_config\.json")


def test_an_unsupported_model_is_told_so_first(tmp_path):
    """Whatever else is missing beside its configuration, weights most of all."""
    config = json.loads((ROOT / "models" / "miniature" / "model_config.json").read_text(encoding="utf-8"))
    config["model"]["diffusion"]["diffusion_objective"] = "v"
    (tmp_path / "model_config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(UnsupportedModelError, match="found 'v', expected 'rf_denoiser' or 'rectified_flow'"):
        convert(tmp_path, None, tmp_path / "bundle")


@pytest.mark.parametrize("empty", ["", " "])
def test_an_empty_name_is_not_the_current_folder(empty, checkpoint, tmp_path, monkeypatch):
    monkeypatch.chdir(checkpoint)
    with pytest.raises(CheckpointNotFoundError, match="the name is empty"):
        convert(empty, checkpoint / "t5", tmp_path / "bundle")
    with pytest.raises(CheckpointNotFoundError, match="the name is empty"):
        convert(checkpoint, empty, tmp_path / "bundle")


def test_missing_tensor(copy):
    _edit(copy / "model.safetensors", lambda tensors: tensors.pop("model.model.postprocess_conv.weight"))
    _refused(copy, CheckpointError, r"missing: model\.model\.postprocess_conv\.weight")


def test_extra_tensor(copy):
    _edit(copy / "model.safetensors", lambda tensors: tensors.update({"model.extra": torch.zeros(1)}))
    _refused(copy, CheckpointError, r"not in the configured model: model\.extra")


def test_misshapen_tensor(copy):
    _edit(
        copy / "model.safetensors", lambda tensors: tensors.update({"model.model.postprocess_conv.weight": torch.zeros(8, 8)})
    )
    _refused(copy, CheckpointError, r"postprocess_conv\.weight \[8, 8\], expected \[8, 8, 1\]")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite(copy, value):
    def change(tensors):
        tensors["pretransform.model.decoder.layers.0.bias"][2] = value

    _edit(copy / "model.safetensors", change)
    _refused(copy, CheckpointError, r"NaN or infinite values in pretransform\.model\.decoder\.layers\.0\.bias")


def test_truncated_checkpoint(copy):
    path = copy / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])
    _refused(copy, CheckpointError, "cannot be read as safetensors")


def test_t5_of_another_kind(copy):
    (copy / "t5" / "config.json").write_text('{"model_type": "bert"}')
    _refused(copy, sao_onnx_convert.UnsupportedModelError, "model_type: found 'bert', supported: 't5'")


def test_t5_without_a_tensor(copy):
    _edit(copy / "t5" / "model.safetensors", lambda tensors: tensors.pop("encoder.final_layer_norm.weight"))
    _refused(copy, CheckpointError, r"missing: \['encoder\.final_layer_norm\.weight'\]")


def test_t5_misshapen(copy):
    _edit(copy / "t5" / "model.safetensors", lambda tensors: tensors.update({"encoder.final_layer_norm.weight": torch.ones(3)}))
    _refused(copy, CheckpointError, "misshapen.*final_layer_norm")


def test_t5_not_finite(copy):
    _edit(copy / "t5" / "model.safetensors", lambda tensors: tensors["encoder.final_layer_norm.weight"].fill_(float("nan")))
    _refused(copy, CheckpointError, "NaN or infinite")


def test_t5_damaged(copy):
    (copy / "t5" / "tokenizer.json").write_text("{}")
    _refused(copy, CheckpointError, r"tokenizer\.json cannot be read")
    (copy / "t5" / "config.json").write_text("[]")
    _refused(copy, CheckpointError, r"config\.json cannot be read")


def test_t5_of_another_width(copy):
    config = json.loads((copy / "t5" / "config.json").read_text())
    (copy / "t5" / "config.json").write_text(json.dumps(config | {"d_model": 48}))
    _refused(copy, CheckpointError, r"missing: conditioner\.conditioners\.prompt\.proj_out\.bias")


def test_a_graph_that_differs_fails_the_conversion(copy, monkeypatch):
    from sao_onnx_convert.export import checks

    monkeypatch.setattr(checks, "TOLERANCE", 1e-12)
    _refused(copy, ParityError, "text_encoder: the graph differs from its torch module by")


def test_a_network_that_overflows_fails_the_conversion(copy):
    _edit(copy / "t5" / "model.safetensors", lambda tensors: tensors["shared.weight"].fill_(6e4))
    _edit(copy / "t5" / "model.safetensors", lambda tensors: tensors["encoder.final_layer_norm.weight"].fill_(6e4))
    _edit(copy / "model.safetensors", lambda tensors: tensors["model.model.to_timestep_embed.0.bias"].fill_(3e38))
    _refused(copy, ParityError, "dit: velocity holds NaN or infinite values")


def test_interruption_leaves_nothing(copy):
    def interrupt(step):
        if step.step == "exporting dit":
            raise KeyboardInterrupt

    target = copy.parent / "bundle"
    with pytest.raises(KeyboardInterrupt):
        convert(copy, copy / "t5", target, progress=interrupt)
    assert os.listdir(copy.parent) == ["checkpoint"]


@pytest.mark.parametrize("name", ["~nobody-of-this-name/bundle", "x" * 300, "a\0b", "file/bundle", "circle", "circle/bundle"])
def test_names_that_nothing_can_be_written_to(copy, name, monkeypatch):
    monkeypatch.chdir(copy.parent)
    Path("file").touch()
    Path("circle").symlink_to("circle")
    with pytest.raises(ConversionError, match=r"cannot be written|is not a bundle"):
        convert(copy, copy / "t5", name)
    assert sorted(os.listdir()) == ["checkpoint", "circle", "file"]


@pytest.mark.parametrize("strides", [[2, 4, 4, 8, 8], [2, 4, 8], [3, 5, 2], [16], [2, 2], [2, 2, 2, 2, 2, 2]])
def test_every_stage_of_the_decoder_sees_enough_and_no_more(strides):
    """Of all contexts, the stated one is the least that makes a tile exact."""
    torch.manual_seed(0)
    config = OobleckDecoderConfig(
        channels=2, c_mults=(1,) * len(strides), strides=tuple(strides), latent_dim=2, out_channels=1, final_tanh=False
    )
    decoder = Decoder(config).double().eval()
    stages = split_decoder(decoder, tuple(strides))
    latents = torch.randn(1, 2, 60, dtype=torch.float64)
    with torch.no_grad():
        features = stages[0].layers(latents)
        for stage, following in zip(stages[1:], [*stages[2:], None], strict=True):
            upsampling = (following.rate if following else int(np.prod(strides))) // stage.rate
            count = features.shape[2]
            start, stop = count // 3, 2 * count // 3
            result = stage.layers(features)
            whole = result[:, :, start * upsampling : stop * upsampling]

            def tile(context, features=features, stage=stage, start=start, stop=stop, upsampling=upsampling):
                first = max(0, start - context)
                audio = stage.layers(features[:, :, first : stop + context])
                return audio[:, :, (start - first) * upsampling :][:, :, : (stop - start) * upsampling]

            assert torch.allclose(tile(stage.margin), whole, rtol=0, atol=1e-12)
            assert stage.margin < start
            assert not torch.allclose(tile(stage.margin - 1), whole, rtol=0, atol=1e-12)
            features = result
        assert torch.allclose(features, decoder(latents), rtol=0, atol=1e-12)


def test_where_the_released_decoder_is_cut():
    config = load_config(ROOT / "models" / "stable-audio-open-small" / "model_config.json")
    with torch.device("meta"):
        decoder = Decoder(config.model.pretransform.config.decoder.config)
    stages = split_decoder(decoder, (2, 4, 4, 8, 8))
    assert [(stage.rate, stage.margin) for stage in stages] == [(1, 0), (8, 7), (256, 16)]
