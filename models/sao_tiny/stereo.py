"""Two channels as twice one: the autoencoder is trained on single channels and stands twice in the stereo network.

Where a sound stands is then a matter of its latents alone, half of which belong to the left and half to the right: nothing
that the network does to a channel can reach the other. A sound in the middle has the same latents twice.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from sao_onnx_convert.family.stable_audio_open.networks.autoencoder import Autoencoder
from sao_onnx_convert.source.config_fields import AutoencoderConfig


def mono(config: AutoencoderConfig) -> Autoencoder:
    """The autoencoder of one channel, half as wide everywhere, not trained."""
    encoder, decoder = config.encoder.config, config.decoder.config
    return Autoencoder(
        dataclasses.replace(
            encoder, in_channels=encoder.in_channels // 2, channels=encoder.channels // 2, latent_dim=encoder.latent_dim // 2
        ),
        dataclasses.replace(
            decoder, out_channels=decoder.out_channels // 2, channels=decoder.channels // 2, latent_dim=decoder.latent_dim // 2
        ),
    )


def stereo(config: AutoencoderConfig, half: Autoencoder) -> Autoencoder:
    """The stereo autoencoder that does to each channel what `half` does.

    Latents of the left come first. Weights between the halves are 0; norms of weights stay what they are, so that `weight_g`
    and `weight_v` mean the same as before.
    """
    model = Autoencoder(config.encoder.config, config.decoder.config)
    given = half.state_dict()
    last = max(int(name.split(".")[2]) for name in given if name.startswith("encoder.layers."))
    state = {}
    for name, value in model.state_dict().items():
        state[name] = _twice(given[name].to(value.device), value)
        if name.startswith(f"encoder.layers.{last}."):
            # Means of both channels, then deviations of both.
            state[name] = state[name].view(2, 2, len(value) // 4, *value.shape[1:]).transpose(0, 1).reshape(value.shape)
    model.load_state_dict(state)
    return model.eval().requires_grad_(False)


def _twice(part: Tensor, like: Tensor) -> Tensor:
    if part.shape[1:] == like.shape[1:]:
        return torch.cat([part, part])
    both = torch.zeros_like(like)
    rows, columns = part.shape[:2]
    both[:rows, :columns] = part
    both[rows:, columns:] = part
    return both
