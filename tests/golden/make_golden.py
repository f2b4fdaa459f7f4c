"""Write `golden.npz`: what stable-audio-tools 0.0.19 computes with the miniature's random weights.

Run once, by hand, in an environment that has stable-audio-tools; README.md beside this file says how. The tests read what it
wrote and need neither this program nor the reference.

    make miniature
    python tests/golden/make_golden.py scratch/miniature tests/golden/golden.npz
"""

# mypy: ignore-errors
# The reference has no types.

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path
from unittest.mock import MagicMock

import numpy as np
import torch
from safetensors.torch import load_file
from transformers import PreTrainedTokenizerFast, T5EncoderModel

for unused in ("torchaudio", "torchaudio.transforms", "k_diffusion"):
    # Imported by the reference, but not used on the way to these numbers; their builds lag behind PyTorch's.
    sys.modules[unused] = MagicMock()

from stable_audio_tools.inference.generation import generate_diffusion_cond  # noqa: E402
from stable_audio_tools.inference.sampling import sample_rf  # noqa: E402
from stable_audio_tools.models.conditioners import T5Conditioner  # noqa: E402
from stable_audio_tools.models.factory import create_model_from_config  # noqa: E402

PROMPTS = ("deep techno drum loop", "120 BPM  warm synth pad, ﬁne vinyl & rain!", "", "a long tone " * 20)
SECONDS = (3.5, 2.0, 11.0, 300.0)
NEGATIVE = {"prompt": "noise, hiss", "seconds_total": 11.0}
STRIDE = 61
"""Of a run's audio every 61st sample is kept: a prime, so that every phase of the upsampling is met."""

RUNS = {
    "pingpong": {},
    "pingpong_4steps_seed7": {"requests": [1], "steps": 4, "seed": 7},
    "pingpong_batch3": {"requests": [0, 1, 3]},
    "pingpong_cfg": {"cfg_scale": 3.5},
    "pingpong_negative": {"cfg_scale": 3.5, "negative": True},
    "euler": {"sampler_type": "euler"},
    "dpmpp": {"sampler_type": "dpmpp"},
    "init_audio": {"init_noise_level": 0.7},
    "short": {"latents": 310},
    "rectified_flow_pingpong": {"objective": "rectified_flow", "steps": 20, "cfg_scale": 7.0},
    "rectified_flow_euler": {"objective": "rectified_flow", "steps": 50, "cfg_scale": 7.0, "sampler_type": "euler"},
    "rectified_flow_dpmpp": {"objective": "rectified_flow", "steps": 20, "cfg_scale": 7.0, "sampler_type": "dpmpp"},
    "rectified_flow_init_audio": {"objective": "rectified_flow", "steps": 20, "sampler_type": "euler", "init_noise_level": 0.7},
}
"""Whole generations: 8 steps, seed 42, the first request, cfg 1, ping-pong and the whole window, unless they say otherwise."""


def build(folder: Path, objective: str):
    """The reference's model of a checkpoint folder, in single precision throughout, as the golden values are."""
    config = json.loads((folder / "model_config.json").read_text(encoding="utf-8"))
    config["model"]["pretransform"].pop("model_half", None)
    config["model"]["diffusion"]["diffusion_objective"] = objective
    # The reference keeps T5's weights in half precision. The golden values have them rounded so, and computed with in single.
    t5 = T5EncoderModel.from_pretrained(folder / "t5").half().float().eval()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(folder / "t5" / "tokenizer.json"), pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )

    def init(self, output_dim, t5_model_name="t5-base", max_length=128, enable_grad=False, project_out=False):
        # In place of the reference's own, which knows T5 by the names of its published sizes and loads it from the hub.
        super(T5Conditioner, self).__init__(t5.config.d_model, output_dim, project_out=project_out)
        self.max_length, self.enable_grad, self.tokenizer = max_length, enable_grad, tokenizer
        self.__dict__["model"] = t5

    T5Conditioner.__init__ = init
    model = create_model_from_config(config)
    state = {name: tensor.float() for name, tensor in load_file(folder / "model.safetensors").items()}
    model.load_state_dict(state, strict=True)
    return model.eval().requires_grad_(False)


def conditions(indices):
    """Requests in the form that the reference takes."""
    return [{"prompt": PROMPTS[i], "seconds_total": SECONDS[i]} for i in indices]


def conditioning(model):
    """The four requests' tokens and conditioning, and one call of the DiT with them."""
    requests = conditions(range(len(PROMPTS)))
    tensors = model.conditioner(requests, "cpu")
    inputs = model.get_conditioning_inputs(tensors)
    encoded = model.conditioner.conditioners["prompt"].tokenizer(
        list(PROMPTS), truncation=True, max_length=64, padding="max_length", return_tensors="pt"
    )
    latents = torch.randn([len(PROMPTS), model.io_channels, 64])
    times = torch.tensor([1.0, 0.75, 0.4, 0.1])
    return {
        "input_ids": encoded["input_ids"],
        "attention_mask": encoded["attention_mask"],
        "prompt_embedding": tensors["prompt"][0],
        "seconds_total_embedding": tensors["seconds_total"][0],
        "cross_attn_cond": inputs["cross_attn_cond"],
        "global_cond": inputs["global_cond"],
        "dit_x": latents,
        "dit_t": times,
        "dit_v": model.model(latents, times, **inputs, cfg_scale=1.0),
    }


def autoencoder(model):
    """Both directions of the autoencoder, on short pieces."""
    ratio = model.pretransform.downsampling_ratio
    latents = torch.randn([2, model.io_channels, 16])
    time = torch.arange(16 * ratio) / model.sample_rate
    tones = torch.stack([torch.sin(2 * math.pi * pitch * time) for pitch in (220.0, 331.0, 1000.0, 55.0)]).reshape(2, 2, -1)
    audio = 0.4 * tones + 0.05 * torch.randn(tones.shape)
    mean, scale = model.pretransform.model.encoder(audio).chunk(2, dim=1)
    return {
        "decode_z": latents,
        "decode_audio": model.pretransform.decode(latents),
        "encode_audio": audio,
        "encode_mean": mean,
        "encode_stdev": torch.nn.functional.softplus(scale) + 1e-4,
    }


def run(model, audio, options):
    """Latents and audio of one whole generation."""
    options = {"steps": 8, "seed": 42, "requests": [0], "cfg_scale": 1.0, "sampler_type": "pingpong"} | options
    options.pop("objective", None)
    requests = options.pop("requests")
    size = options.pop("latents", 344) * model.pretransform.downsampling_ratio
    if options.pop("negative", False):
        options["negative_conditioning"] = [NEGATIVE]
    if "init_noise_level" in options:
        options["init_audio"] = (model.sample_rate, audio[0, :, :3072])
    latents = generate_diffusion_cond(
        model,
        conditioning=conditions(requests),
        batch_size=len(requests),
        sample_size=size,
        device="cpu",
        return_latents=True,
        **options,
    )
    return latents, model.pretransform.decode(latents)


def schedules():
    """The levels that the sampling loop visits, as the callback is told them."""
    found = {}
    for steps, level in ((8, 1.0), (4, 1.0), (8, 0.7), (1, 1.0), (50, 1.0)):
        levels = []
        noise = torch.zeros(1, 1, 16)
        sample_rf(
            lambda x, t: torch.zeros_like(x),
            noise,
            init_data=noise,
            steps=steps,
            sampler_type="pingpong",
            sigma_max=level,
            callback=lambda state, levels=levels: levels.append(state["t"]),
        )
        found[f"schedule_{steps}_{level}"] = torch.tensor([*levels, 0.0])
    return found


def draws():
    """Noise from PyTorch's generator: whole blocks, a broken block, and few values."""
    found = {}
    for seed in (0, 7, 42, 2**32 - 1):
        torch.manual_seed(seed)
        found[f"randn_seed_{seed}"] = torch.cat([torch.randn(shape).ravel() for shape in ((1, 8, 64), (1, 8, 64), (37,), (5,))])
    return found


def main() -> None:
    """Write every array."""
    parser = argparse.ArgumentParser(description="Write the golden data with the reference.")
    parser.add_argument("checkpoint", type=Path, help="folder with model_config.json, model.safetensors and t5/")
    parser.add_argument("output", type=Path, help="file to write")
    arguments = parser.parse_args()
    models = {objective: build(arguments.checkpoint, objective) for objective in ("rf_denoiser", "rectified_flow")}
    torch.manual_seed(1)
    with torch.no_grad():
        model = models["rf_denoiser"]
        arrays = conditioning(model) | autoencoder(model)
        for name, options in RUNS.items():
            latents, audio = run(models[options.get("objective", "rf_denoiser")], arrays["encode_audio"], options)
            arrays |= {f"{name}_latents": latents, f"{name}_audio": audio[..., ::STRIDE]}
        arrays |= schedules() | draws()
    found = {name: value.detach().numpy() for name, value in arrays.items()}
    found |= {"prompts": np.array(PROMPTS), "seconds_total": np.array(SECONDS, np.float32), "audio_stride": np.array(STRIDE)}
    np.savez_compressed(arguments.output, **found)


if __name__ == "__main__":
    main()
