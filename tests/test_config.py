"""Which configurations the converter refuses, and that it names the field and the supported values."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sao_onnx_convert import UnsupportedModelError
from sao_onnx_convert.source.config import load_config, parse_config
from tests.conftest import ROOT

ENCODER = "model.pretransform.config.encoder.config"
DECODER = "model.pretransform.config.decoder.config"
DIT = "model.diffusion.config"


def _set(config: dict[str, Any], path: str, value: object) -> None:
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
        (
            "model.diffusion.diffusion_objective",
            "v",
            "diffusion_objective: found 'v', expected 'rf_denoiser' or 'rectified_flow'; Stable Audio Open 1.0",
        ),
        ("model.diffusion.diffusion_objective", "epsilon", "diffusion_objective: found 'epsilon', expected 'rf_denoiser'"),
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
        (f"{DIT}.attn_kwargs", {"differential": True}, "attn_kwargs.differential: found True, expected False"),
        (f"{DIT}.patch_size", 2, "patch_size: found 2, expected 1"),
        (f"{DIT}.global_cond_type", "adaLN", "global_cond_type: found 'adaLN', expected 'prepend'"),
        (f"{DIT}.timestep_cond_type", "input_concat", "timestep_cond_type"),
        (f"{DIT}.project_global_cond", False, "project_global_cond"),
        (f"{DIT}.use_sinusoidal_emb", True, "use_sinusoidal_emb: found True, expected False"),
        (f"{DIT}.num_memory_tokens", 4, "num_memory_tokens: found 4, expected 0"),
        (f"{DIT}.input_concat_dim", 8, "input_concat_dim: found 8, expected 0"),
        (f"{DIT}.prepend_cond_dim", 8, "prepend_cond_dim: found 8, expected 0"),
        (f"{DIT}.final_cross_attn_ix", 1, "final_cross_attn_ix: found 1, expected -1"),
        (f"{DIT}.causal", True, "causal: found True, expected False"),
        (f"{DIT}.conformer", True, "conformer: found True, expected False"),
        (f"{DIT}.rotary_pos_emb", False, "rotary_pos_emb: found False, expected True"),
        (f"{DIT}.sliding_window", [64, 64], "sliding_window: found .64, 64., expected null"),
        (f"{DIT}.remove_norms", True, "remove_norms: found True, expected False"),
        (f"{DIT}.layer_scale", True, "layer_scale: found True, expected False"),
        (f"{DIT}.add_rope", True, "add_rope: found True, expected False"),
        (f"{DIT}.ff_kwargs", {"mult": 2}, "ff_kwargs.mult: found 2.0, expected 4"),
        (f"{DIT}.ff_kwargs", {"glu": False}, "ff_kwargs.glu: found False, expected True"),
        (f"{DIT}.norm_kwargs", {"eps": 1e-6}, "norm_kwargs.eps: found 1e-06, expected 1e-05"),
        (f"{DIT}.norm_kwargs", {"bias": True}, "norm_kwargs.bias: found True, expected False"),
        (f"{DIT}.diffusion_objective", "rf_denoiser", "config.diffusion_objective: unknown field"),
        (f"{DIT}.video_fps", 5, "config.video_fps: unknown field"),
        (f"{DECODER}.kernel", 5, "decoder.config.kernel: unknown field"),
        ("model.conditioning.configs.0.config.pad", 5, r"configs\[0\].config.pad: unknown field"),
        (
            "model.conditioning.configs.0.config.output_dim",
            31,
            r"configs\[0\].config.output_dim: found 31, expected the cond_dim 32",
        ),
        ("model.conditioning.configs.1.config.log", True, r"configs\[1\].config.log: unknown field"),
        ("model.conditioning.pre_encoded_keys", ["prompt"], "pre_encoded_keys: found .'prompt'., supported: none"),
        ("model.pretransform.config.decoder.soft_clip", True, "decoder.soft_clip: found True"),
        ("model.pretransform.config.pretransform", {"type": "pqmf"}, "config.pretransform: found .*, expected null"),
        ("model.pretransform.config.in_channels", 1, "config.in_channels: found 1, expected 2"),
        ("model.pretransform.config.out_channels", 1, "config.out_channels: found 1, expected 2"),
        (f"{DIT}.num_heads", 3, "3 heads do not divide embed_dim 64"),
        (f"{DIT}.num_heads", 4, "heads of 16 channels, supported: at least 32"),
        (f"{DIT}.depth", 0, "sizes must be positive"),
        ("model.diffusion.input_concat_ids", ["x"], "input_concat_ids: found .'x'., supported: none"),
        ("model.diffusion.prepend_cond_ids", ["seconds_total"], "prepend_cond_ids: found .'seconds_total'., supported: none"),
        ("model.diffusion.local_add_cond_ids", ["x"], "local_add_cond_ids: found .'x'., supported: none"),
        ("model.diffusion.mask_padding_attention", True, "mask_padding_attention: found True, expected False"),
        ("model.diffusion.sampling_distribution_shift_options", {"type": "full"}, "sampling_distribution_shift_options: found"),
        ("model.diffusion.global_cond_ids", [], "at least one number conditioner"),
        ("model.diffusion.global_cond_ids", ["prompt"], "'prompt' is text"),
        ("model.diffusion.cross_attention_cond_ids", ["seconds_total"], "the text conditioner 'prompt' is missing"),
        ("model.diffusion.cross_attention_cond_ids", ["prompt", "bpm"], "'bpm' is not among the conditioners"),
        ("model.conditioning.configs.1.id", "prompt", "an id occurs twice"),
        ("model.conditioning.configs.1.config", {"min_val": 5, "max_val": 5}, "max_val must exceed min_val"),
        ("model.conditioning.configs.0.config.max_length", 0, "max_length must be positive"),
        ("model.conditioning.configs", [], "found 0 conditioners of type 't5'"),
        ("audio_channels", 1, "audio_channels: found 1, expected 2"),
        ("sample_size", 100, "at least one latent"),
        ("sample_size", 10**15, "at most 262144"),
        ("sample_size", 1e400, "sample_size: found inf, expected a whole number"),
        (f"{DIT}.embed_dim", 10**9, "embed_dim: found 1000000000, sizes must be positive and at most 65536"),
        (f"{DIT}.depth", 10**9, "depth: found 1000000000"),
        (f"{DIT}.depth", True, "depth: found True, expected a whole number"),
        (f"{DIT}.depth", None, "depth: found None, expected a whole number"),
        (f"{ENCODER}.c_mults", [1, 2, 10**8], "c_mults: found 100000000"),
        (f"{ENCODER}.c_mults", [], "channels: found|0 multipliers for 3 strides"),
        (f"{ENCODER}.strides", [4, 8, "16"], r"strides\[2\]: found '16', expected a whole number"),
        (f"{DECODER}.strides", [1] * 40, "found 40, expected at least one stride and at most 16"),
        ("model.conditioning.configs.1.config.max_val", float("nan"), "max_val: found nan, expected a finite number"),
        ("model.conditioning.configs.1.config.max_val", 10**400, "max_val: found 1000.*, expected a finite number"),
        ("model.conditioning.configs.1.id", "a.b", "'a.b' cannot be the id"),
        ("model.conditioning.configs.1.id", "items", "'items' cannot be the id"),
        ("model.conditioning.configs.1.id", "", "'' cannot be the id"),
        ("model.conditioning.configs.1.type", ["number"], "type: found .'number'., supported: 't5', 'number'"),
        ("model.conditioning.configs", {"prompt": "t5"}, "configs: found .*, expected a list"),
        ("model.conditioning", None, "model.conditioning: found None, expected an object"),
        ("model.diffusion", "dit", "model.diffusion: found 'dit', expected an object"),
        ("model", [], r"model: found \[\], expected an object"),
        ("model.pretransform", None, "model.pretransform: found None, expected an object"),
        ("sample_rate", "44100", "sample_rate: found '44100', expected a whole number"),
    ],
)
def test_refuses(model_config, path, value, match):
    _set(model_config, path, value)
    with pytest.raises(UnsupportedModelError, match=match):
        parse_config(model_config)


def test_a_missing_field(model_config):
    del model_config["model"]["pretransform"]["config"]["downsampling_ratio"]
    with pytest.raises(UnsupportedModelError, match=r"pretransform\.config\.downsampling_ratio: missing"):
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


def test_the_released_model_has_its_750_tensors():
    """The networks' tensors are those of the released checkpoint, name by name and shape by shape."""
    import torch

    from sao_onnx_convert.family.stable_audio_open.networks.model import AudioModel

    folder = ROOT / "models" / "stable-audio-open-small"
    expected = json.loads((folder / "tensors.json").read_text())
    with torch.device("meta"):
        tensors = AudioModel(load_config(folder / "model_config.json"), t5_width=768).state_dict()
    assert {name: list(tensor.shape) for name, tensor in tensors.items()} == {
        name: entry["shape"] for name, entry in expected.items()
    }
    assert len(tensors) == 750
