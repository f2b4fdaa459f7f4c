"""Which configurations the converter refuses, and that it names the field and the supported values."""

from __future__ import annotations

import json

import pytest

from sao_onnx_convert import UnsupportedModelError
from sao_onnx_convert.config import load_config, parse_config
from tests.conftest import ROOT

ENCODER = "model.pretransform.config.encoder.config"
DECODER = "model.pretransform.config.decoder.config"
DIT = "model.diffusion.config"


def _set(config: dict, path: str, value: object) -> None:
    *parents, last = path.split(".")
    for name in parents:
        config = config[int(name)] if isinstance(config, list) else config[name]
    if isinstance(config, list):
        config[int(last)] = value
    else:
        config[last] = value


@pytest.mark.parametrize(
    ("path", "value", "match"),
    [
        ("model_type", "diffusion_uncond", "model_type: found 'diffusion_uncond', expected 'diffusion_cond'"),
        ("model.diffusion.diffusion_objective", "v", "diffusion_objective: found 'v', expected 'rf_denoiser'"),
        ("model.diffusion.diffusion_objective", "rectified_flow", "expected 'rf_denoiser'"),
        ("model.diffusion.type", "unet", "model.diffusion.type: found 'unet', expected 'dit'"),
        ("model.conditioning.configs.1.type", "clap_text", r"configs\[1\].type: found 'clap_text', supported: 't5', 'number'"),
        ("model.conditioning.configs.1.type", "int", "supported: 't5', 'number'"),
        ("model.pretransform.type", "dac_pretrained", "pretransform.type: found 'dac_pretrained', expected 'autoencoder'"),
        ("model.pretransform.config.encoder.type", "seanet", "encoder.type: found 'seanet', expected 'oobleck'"),
        ("model.pretransform.config.bottleneck.type", "rvq", "bottleneck.type: found 'rvq', expected 'vae'"),
        ("model.pretransform.scale", 2.0, "pretransform.scale: found 2.0, supported: 1.0"),
        (f"{DECODER}.use_snake", False, "decoder.config.use_snake: found False, expected True"),
        (f"{DECODER}.antialias_activation", True, "antialias_activation"),
        (f"{DECODER}.use_nearest_upsample", True, "use_nearest_upsample"),
        (f"{DECODER}.strides", [4, 8], "3 multipliers for 2 strides"),
        (f"{ENCODER}.strides", [4, 8, 8], "product 256 is not the downsampling_ratio 512"),
        (f"{ENCODER}.strides", [], "at least one stride"),
        (f"{ENCODER}.latent_dim", 8, "latent_dim: found 8, expected 16"),
        (f"{DECODER}.latent_dim", 4, "latent_dim: found 4, expected 8"),
        (f"{DIT}.io_channels", 9, "io_channels: found 9, expected 8"),
        (f"{DIT}.cond_token_dim", 9, "cond_token_dim: found 9, expected 32"),
        (f"{DIT}.global_cond_dim", 9, "global_cond_dim: found 9, expected 32"),
        (f"{DIT}.attn_kwargs", {"qk_norm": "l2"}, "qk_norm: found 'l2', expected one of 'ln', 'none'"),
        (f"{DIT}.attn_kwargs", {"differential": True}, "attn_kwargs.differential: unknown field"),
        (f"{DIT}.patch_size", 2, "patch_size: found 2, expected 1"),
        (f"{DIT}.global_cond_type", "adaLN", "global_cond_type: found 'adaLN', expected 'prepend'"),
        (f"{DIT}.timestep_cond_type", "input_concat", "timestep_cond_type"),
        (f"{DIT}.project_global_cond", False, "project_global_cond"),
        (f"{DIT}.use_sinusoidal_emb", True, "use_sinusoidal_emb: unknown field"),
        (f"{DIT}.num_memory_tokens", 4, "num_memory_tokens: unknown field"),
        (f"{DIT}.num_heads", 3, "3 heads do not divide embed_dim 64"),
        (f"{DIT}.num_heads", 4, "heads of 16 channels, supported: at least 32"),
        (f"{DIT}.depth", 0, "sizes must be positive"),
        ("model.diffusion.input_concat_ids", ["x"], "input_concat_ids: unknown field"),
        ("model.diffusion.global_cond_ids", [], "at least one number conditioner"),
        ("model.diffusion.global_cond_ids", ["prompt"], "'prompt' is text"),
        ("model.diffusion.cross_attention_cond_ids", ["seconds_total"], "the text conditioner 'prompt' is missing"),
        ("model.diffusion.cross_attention_cond_ids", ["prompt", "bpm"], "'bpm' is not among the conditioners"),
        ("model.conditioning.configs.1.id", "prompt", "an id occurs twice"),
        ("model.conditioning.configs.1.config", {"min_val": 5, "max_val": 5}, "max_val must exceed min_val"),
        ("model.conditioning.configs.0.config.max_length", 0, "max_length must be positive"),
        ("model.conditioning.configs", [], "found 0 conditioners of type 't5'"),
        ("audio_channels", 1, "in_channels: found 2, expected 1"),
        ("sample_size", 100, "at least one latent"),
        ("sample_size", 176129, "not a multiple of the ratio 512"),
        ("sample_rate", "44100", "sample_rate: found '44100', expected a whole number"),
    ],
)
def test_refuses(model_config, path, value, match):
    _set(model_config, path, value)
    with pytest.raises(UnsupportedModelError, match=match):
        parse_config(model_config)


def test_a_missing_field(model_config):
    del model_config["model"]["diffusion"]["config"]["depth"]
    with pytest.raises(UnsupportedModelError, match=r"diffusion\.config\.depth: missing"):
        parse_config(model_config)


def test_shared_heads_must_divide(model_config):
    _set(model_config, f"{DIT}.project_cond_tokens", False)
    _set(model_config, "model.conditioning.cond_dim", 96)
    _set(model_config, f"{DIT}.cond_token_dim", 96)
    _set(model_config, f"{DIT}.global_cond_dim", 96)
    with pytest.raises(UnsupportedModelError, match="does not split into heads of 32 channels shared evenly by 2"):
        parse_config(model_config)


def test_every_place_in_the_window_needs_an_embedding(model_config):
    tokens = parse_config(model_config).window + 1
    _set(model_config, f"{DIT}.use_abs_pos_emb", True)
    _set(model_config, f"{DIT}.abs_pos_emb_max_length", tokens)
    assert parse_config(model_config).model.diffusion.config.use_abs_pos_emb
    _set(model_config, f"{DIT}.abs_pos_emb_max_length", tokens - 1)
    with pytest.raises(
        UnsupportedModelError, match=f"abs_pos_emb_max_length: found {tokens - 1}, expected at least the {tokens}"
    ):
        parse_config(model_config)


def test_training_settings_are_of_no_concern(model_config):
    model_config["training"] = {"anything": [1]}
    model_config["model"]["diffusion"]["distribution_shift_options"] = {"min_length": 256}
    assert parse_config(model_config).sample_rate == 44100


def test_not_json(tmp_path):
    (tmp_path / "model_config.json").write_text("{")
    with pytest.raises(UnsupportedModelError, match="cannot be read as JSON"):
        load_config(tmp_path / "model_config.json")


def test_the_released_model_has_its_750_tensors():
    """The networks' tensors are those of the released checkpoint, name by name and shape by shape."""
    import torch

    from sao_onnx_convert.networks.model import AudioModel

    folder = ROOT / "models" / "stable-audio-open-small"
    expected = json.loads((folder / "tensors.json").read_text())
    with torch.device("meta"):
        tensors = AudioModel(load_config(folder / "model_config.json"), t5_width=768).state_dict()
    assert {name: list(tensor.shape) for name, tensor in tensors.items()} == {
        name: entry["shape"] for name, entry in expected.items()
    }
    assert len(tensors) == 750
