"""PyTorch in single precision: `eager`, or `compile` with default settings."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bench.contenders.clip import Array, Network, main
from sao_onnx_convert.family.stable_audio_open.pipeline import TorchPipeline


@functools.cache
def _pipeline(folder: Path, threads: int) -> TorchPipeline:
    """The whole checkpoint, which users of PyTorch load as one."""
    torch.set_num_threads(threads)
    return TorchPipeline.load(folder / "checkpoint", folder / "checkpoint" / "t5")


def _network(module: Callable[..., Tensor], variant: str, *example: Tensor) -> Network:
    """A module as a function of arrays. To be compiled, it runs once here, so that the clip's time leaves compiling out."""
    run = torch.compile(module, dynamic=False) if variant == "compile" else module

    def network(*arrays: Array) -> Array:
        with torch.no_grad():
            return run(*map(torch.from_numpy, arrays)).numpy()

    if variant == "compile":
        network(*(tensor.numpy() for tensor in example))
    return network


def text_encoder(folder: Path, variant: str, threads: int) -> Network:
    """T5. It is never compiled, because it takes little time."""
    encoder = _pipeline(folder, threads).t5.encoder
    return _network(lambda ids, mask: encoder(input_ids=ids, attention_mask=mask).last_hidden_state, "eager")


def dit(folder: Path, variant: str, threads: int) -> Network:
    """The DiT."""
    model = _pipeline(folder, threads)
    with np.load(folder / "inputs.npz") as inputs:
        condition = [torch.from_numpy(inputs[name]) for name in ("cross_attention", "global_condition")]
    return _network(model.model.dit, variant, _latents(model), torch.ones(1), *condition)


def decoder(folder: Path, variant: str, threads: int) -> Network:
    """The decoder."""
    model = _pipeline(folder, threads)
    return _network(model.model.autoencoder.decoder, variant, _latents(model))


def _latents(model: TorchPipeline) -> Tensor:
    return torch.zeros(1, model.config.model.pretransform.config.latent_dim, model.config.window)


if __name__ == "__main__":
    main(dit, decoder, text_encoder)
