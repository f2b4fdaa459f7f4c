"""Trains sao-tiny's second edition, or goes on where the training was cut off.

    python -m models.sao_tiny.train scratch/sao-tiny
    python -m models.sao_tiny.train scratch/sao-tiny --from-scratch

writes, in the folder named, the weights of every stage and its curve, and at the end the checkpoint `sao-tiny`, in the layout
of the released model. The stages that are finished are taken from `states` beside this file; with `--from-scratch`, all are
trained.

Uses CUDA where there is a device. On one H100 with 16 processors, which render the sounds meanwhile, the autoencoder takes 4
minutes, the transformer 8 and the decoder 4; the text encoder is trained beside them. Sounds are kept in memory, 30 GB of it.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import nn

from models.sao_tiny import autoencoder, decoder, diffusion, edges, initial_weights, states, text
from models.sao_tiny.checkpoint import HERE, write_checkpoint
from models.sao_tiny.data import Pool
from models.sao_tiny.examples import Examples
from models.sao_tiny.latents import Latents
from models.sao_tiny.requests import WINDOW
from models.sao_tiny.stereo import stereo
from sao_onnx_convert.source.config import load_config

STAGES = ("autoencoder", "diffusion", "decoder")
"""In this order; the text encoder is trained beside them."""

FINISHED = HERE / "states"
"""Weights of stages that need not be trained again, and the tokenizer that belongs to them."""

CONFIG, T5_CONFIG = HERE / "model_config.json", HERE / "t5_config.json"
TOKENIZER = "tokenizer.json"


def say(message: str) -> None:
    """One line of progress."""
    print(time.strftime("%H:%M:%S"), message, flush=True)


def train(folder: Path, until: str = STAGES[-1], from_scratch: bool = False) -> None:
    """All stages in order; each goes on where it was cut off, and is skipped if it is finished.

    Args:
        folder: For everything that is written.
        until: The last of `STAGES` to be trained.
        from_scratch: Begin a new folder with nothing, and not with the stages that are finished.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if not from_scratch and not (folder / TOKENIZER).is_file():
        take_finished(folder)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    if _all_finished(folder):
        assemble(folder)
        return
    config = load_config(CONFIG)
    pretransform = config.model.pretransform.config
    tokenizer = text.train_tokenizer(folder / TOKENIZER)
    coder, denoiser, reader = autoencoder.untrained(config), initial_weights.untrained(config), text.untrained(T5_CONFIG)

    # Processes are forked before anything touches the GPU.
    sounds, prompted = Pool(autoencoder.ORDER), Pool(diffusion.ORDER, tokenizer)
    coder_finished = load_stage(folder, "autoencoder", coder)
    if not coder_finished:
        sounds.start()
    if until != "autoencoder":
        prompted.start()
    join_text = _start_text(tokenizer, folder)

    device = _device()
    if not coder_finished:
        autoencoder.train(coder, pretransform.encoder.config.strides, sounds, folder, device, say)
        _finish(folder, "autoencoder", coder)
    coder.to(device).eval().requires_grad_(False)
    autoencoder.compile_activations(coder)
    join_text()
    _require_text(folder, reader)
    if until == "autoencoder":
        return
    reader.eval().requires_grad_(False)
    latents = Latents(coder, prompted, pretransform.latent_dim // 2, WINDOW // pretransform.downsampling_ratio, device)
    examples = Examples(latents, diffusion.ORDER, reader, device)
    if not load_stage(folder, "diffusion", denoiser):
        diffusion.train(denoiser, examples, folder, device, say)
        _finish(folder, "diffusion", denoiser)
    denoiser.to(device).eval().requires_grad_(False)
    if until == "diffusion":
        return
    if not load_stage(folder, "decoder", coder.decoder):
        decoder.train(coder, denoiser, examples, folder, say)
        edges.train(coder, say)
        _finish(folder, "decoder", coder.decoder)
    assemble(folder)


def assemble(folder: Path) -> None:
    """Write the checkpoint `sao-tiny`, when all stages are finished."""
    config = load_config(CONFIG)
    coder, denoiser, reader = autoencoder.untrained(config), initial_weights.untrained(config), text.untrained(T5_CONFIG)
    parts = {"autoencoder": coder, "diffusion": denoiser, "text": reader, "decoder": coder.decoder}
    for name, model in parts.items():
        if not load_stage(folder, name, model):
            raise FileNotFoundError(f"{folder}: the stage {name!r} is not finished")
    both = stereo(config.model.pretransform.config, coder)
    tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
    write_checkpoint(folder / "sao-tiny", CONFIG, both, denoiser, reader.encoder, tokenizer)
    say(f"written: {folder / 'sao-tiny'}")


def take_finished(folder: Path) -> None:
    """Begin a folder with the stages that are finished. The tokenizer comes last: where it is, the others are.

    Once the decoder is finished, it stands in the place of the one that the encoder was trained with.
    """
    kept = {name: states.read(FINISHED, name) for name in ("text", *STAGES) if states.present(FINISHED, name)}
    if "diffusion" in kept:
        coder = kept["autoencoder"]
        kept["decoder"] = {key.removeprefix("decoder."): coder[key] for key in coder if key.startswith("decoder.")}
    for name, state in kept.items():
        states.write(folder, name, state)
    shutil.copy(FINISHED / TOKENIZER, folder)


def load_stage(folder: Path, name: str, model: nn.Module) -> bool:
    """Give a model the weights of a stage, if it is finished."""
    if not states.present(folder, name):
        return False
    model.load_state_dict(states.read(folder, name))
    return True


def _finish(folder: Path, name: str, model: nn.Module) -> None:
    """Keep the weights of a stage that is finished, and go on with them as they are kept: in half precision."""
    states.write(folder, name, model.state_dict(), compress=True)
    states.remove(folder, f"{name}-partial")
    load_stage(folder, name, model)


def _device() -> torch.device:
    """The GPU if there is one, set to be fast."""
    torch.backends.cudnn.benchmark = True
    torch.set_float32_matmul_precision("high")
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _all_finished(folder: Path) -> bool:
    return all(states.present(folder, name) for name in ("text", *STAGES))


def _start_text(tokenizer: Tokenizer, folder: Path) -> Callable[[], None]:
    """Train the text encoder beside the other stages, unless it is finished; a function that waits for it."""
    if states.present(folder, "text"):
        return lambda: None
    # This process begins from nothing: PyTorch's threads do not survive a fork.
    process = multiprocessing.get_context("spawn").Process(target=train_text, args=(tokenizer, folder))
    process.start()
    return process.join


def _require_text(folder: Path, reader: nn.Module) -> None:
    """Give the text encoder its weights.

    Raises:
        RuntimeError: Its training has failed.
    """
    if not load_stage(folder, "text", reader):
        raise RuntimeError("the training of the text encoder has failed; see above")


def train_text(tokenizer: Tokenizer, folder: Path) -> None:
    """Train the text encoder, in a process beside the other stages."""
    torch.set_num_threads(2)
    reader = text.untrained(T5_CONFIG)
    text.train(reader, tokenizer, folder, say)
    _finish(folder, "text", reader)


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description="Train sao-tiny.")
    parser.add_argument("folder", type=Path, help="for everything that is written; a folder that git ignores")
    parser.add_argument("--until", choices=STAGES, default=STAGES[-1], help="the last stage")
    parser.add_argument("--from-scratch", action="store_true", help="train everything from nothing")
    arguments = parser.parse_args()
    train(arguments.folder, arguments.until, arguments.from_scratch)


if __name__ == "__main__":
    main()
