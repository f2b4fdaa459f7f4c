"""Trains sao-tiny from nothing, or goes on where it was cut off.

    python -m models.sao_tiny.train scratch/sao-tiny

writes, in the folder named, the sounds, the state of every stage and its curve, and at the end the checkpoint `sao-tiny`, in
the layout of the released model. Uses CUDA where there is a device.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch

from models.sao_tiny import autoencoder, diffusion, text
from models.sao_tiny.checkpoint import HERE, write_checkpoint
from models.sao_tiny.halves import whole
from sao_onnx_convert.config import load_config


def say(message: str) -> None:
    """One line of progress."""
    print(time.strftime("%H:%M:%S"), message, flush=True)


def train(folder: Path, device: torch.device) -> None:
    """All stages in order; each is skipped if it is done."""
    folder.mkdir(parents=True, exist_ok=True)
    config = load_config(HERE / "model_config.json")
    tokenizer = text.train_tokenizer(folder / "tokenizer.json")
    reader = text.train(tokenizer, HERE / "t5_config.json", folder, device, say)
    one = autoencoder.train(config, folder, device, say)
    denoiser = diffusion.train(config, one, tokenizer, reader, folder, device, say)
    autoencoder.steady(one, folder, device, say)
    codec = whole(config.model.pretransform.config, one)
    write_checkpoint(folder / "sao-tiny", config, codec.cpu(), denoiser.cpu(), reader.encoder.cpu(), tokenizer)
    say(f"written: {folder / 'sao-tiny'}")


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description="Train sao-tiny.")
    parser.add_argument("folder", type=Path, help="for everything that is written; a folder that git ignores")
    parser.add_argument("--threads", type=int, help="of the CPU; by default PyTorch's choice")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    train(arguments.folder, torch.device("cuda" if torch.cuda.is_available() else "cpu"))


if __name__ == "__main__":
    main()
