"""Trains sao-tiny from nothing, or goes on where it was cut off.

    python -m models.sao_tiny.train scratch/sao-tiny

writes, in the folder named, the state of every stage and its curve, and at the end the checkpoint `sao-tiny`, in the layout of
the released model. Uses CUDA where there is a device: eleven minutes on one H100 with sixteen processors, which render the
sounds meanwhile.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import time
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import nn

from models.sao_tiny import autoencoder, diffusion, text
from models.sao_tiny.checkpoint import HERE, write_checkpoint
from models.sao_tiny.data import Pool
from models.sao_tiny.latents import Latents
from models.sao_tiny.requests import WINDOW
from models.sao_tiny.twin import stereo
from sao_onnx_convert.config import load_config

T5 = HERE / "t5_config.json"
STAGES = ("autoencoder", "diffusion", "decoder")


def say(message: str) -> None:
    """One line of progress."""
    print(time.strftime("%H:%M:%S"), message, flush=True)


def train(folder: Path, until: str = STAGES[-1]) -> None:
    """All stages in order, up to one of `STAGES`; each goes on where it was cut off, and is skipped if it is done."""
    folder.mkdir(parents=True, exist_ok=True)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    config = load_config(HERE / "model_config.json")
    pretransform = config.model.pretransform.config
    tokenizer = text.train_tokenizer(folder / "tokenizer.json")
    codec, denoiser, reader = autoencoder.untrained(config), diffusion.untrained(config), text.untrained(T5)

    # Processes are forked before anything touches the GPU.
    sounds, shown = Pool(autoencoder.ORDER), Pool(diffusion.ORDER, tokenizer)
    coded = _load(folder / "autoencoder.safetensors", codec)
    if not coded:
        sounds.start()
    if until != "autoencoder":
        shown.start()
    # This one begins anew: PyTorch's threads do not survive a fork.
    reading = multiprocessing.get_context("spawn").Process(target=_read, args=(tokenizer, folder))
    reading.start()

    torch.backends.cudnn.benchmark = True
    torch.set_float32_matmul_precision("high")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if not coded:
        autoencoder.train(codec, pretransform.encoder.config.strides, sounds, folder, device, say)
        _save(folder / "autoencoder.safetensors", codec)
    codec.to(device).eval().requires_grad_(False)
    reading.join()
    if until == "autoencoder" or not _load(folder / "text.safetensors", reader):
        return
    reader.eval().requires_grad_(False)
    latents = Latents(codec, shown, pretransform.latent_dim // 2, WINDOW // pretransform.downsampling_ratio, device)
    examples = diffusion.Examples(latents, diffusion.ORDER, reader, device)
    if not _load(folder / "diffusion.safetensors", denoiser):
        diffusion.train(denoiser, examples, folder, device, say)
        _save(folder / "diffusion.safetensors", denoiser)
    denoiser.to(device).eval().requires_grad_(False)
    if until == "diffusion":
        return
    if not _load(folder / "decoder.safetensors", codec.decoder):
        diffusion.steady(codec, denoiser, examples, folder, say)
        _save(folder / "decoder.safetensors", codec.decoder)
    both = stereo(pretransform, codec.cpu())
    write_checkpoint(folder / "sao-tiny", config, both, denoiser.cpu(), reader.encoder.cpu(), tokenizer)
    say(f"written: {folder / 'sao-tiny'}")


def _load(path: Path, model: nn.Module) -> bool:
    """Give a model the weights of a stage that is done."""
    if not path.is_file():
        return False
    model.load_state_dict(load_file(path))
    return True


def _save(path: Path, model: nn.Module) -> None:
    partial = path.with_suffix(".part")
    save_file({name: tensor.cpu().clone() for name, tensor in model.state_dict().items()}, partial)
    partial.replace(path)


def _read(tokenizer: Tokenizer, folder: Path) -> None:
    """Train the text encoder, in a process beside the other stages."""
    torch.set_num_threads(2)
    path = folder / "text.safetensors"
    if not path.is_file():
        reader = text.untrained(T5)
        text.train(reader, tokenizer, folder, say)
        _save(path, reader)


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description="Train sao-tiny.")
    parser.add_argument("folder", type=Path, help="for everything that is written; a folder that git ignores")
    parser.add_argument("--until", choices=STAGES, default=STAGES[-1], help="the last stage")
    arguments = parser.parse_args()
    train(arguments.folder, arguments.until)


if __name__ == "__main__":
    main()
