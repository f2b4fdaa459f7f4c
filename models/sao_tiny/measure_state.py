"""What the autoencoder of one channel leaves of a sound, from its state, before anything else is trained.

    python -m models.sao_tiny.measure_state models/sao_tiny/states

The figures are those of `measure_autoencoder`, which measures the autoencoder of a bundle.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch

from models.sao_tiny import autoencoder, states
from models.sao_tiny.checkpoint import HERE
from models.sao_tiny.measure_autoencoder import COUNT, Audio, Reconstruct, figures, named, reconstructions
from sao_onnx_convert.family.stable_audio_open.networks.autoencoder import Autoencoder
from sao_onnx_convert.source.config import load_config


def of_network(model: Autoencoder) -> Reconstruct:
    """The autoencoder of one channel over both channels of a sound, with the noise of the bottleneck."""
    random = torch.Generator().manual_seed(0)

    @torch.no_grad()
    def reconstruct(audio: Audio) -> Audio:
        mean, deviation = model.encode(torch.from_numpy(audio)[:, None])
        noise = torch.randn(mean.shape, generator=random)
        decoded: Audio = model.decoder(mean + deviation * noise)[:, 0].numpy()
        return decoded

    return reconstruct


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description="Measure what the autoencoder of one channel leaves of sounds.")
    parser.add_argument("folder", type=Path, help="where the state is")
    parser.add_argument("--name", default="autoencoder", help="of the state")
    parser.add_argument("--count", type=int, default=COUNT)
    parser.add_argument("--output", "-o", type=Path, help="JSON file for the figures")
    arguments = parser.parse_args()
    model = autoencoder.untrained(load_config(HERE / "model_config.json"))
    model.load_state_dict(states.read(arguments.folder, arguments.name))
    found = list(reconstructions(of_network(model.eval()), arguments.count))
    result = figures(found)
    for name, value in named(result):
        print(f"{name}: {value}")
    for clip in found:
        if clip.heard_as != clip.sound.kind:
            print(f"  {clip.sound.kind} taken for {clip.heard_as}")
    if arguments.output:
        arguments.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
