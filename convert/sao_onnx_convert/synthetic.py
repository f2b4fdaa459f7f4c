"""Writes a checkpoint with random weights: the same files as a published model, of any configuration.

python -m sao_onnx_convert.synthetic models/stable-audio-open-small scratch/checkpoint
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from sao_onnx_convert.family.stable_audio_open.synthetic import write_checkpoint, write_t5
from sao_onnx_convert.source.file_names import CONFIG

__all__ = ["main", "write_checkpoint", "write_t5"]


def main() -> None:
    """Write the checkpoint that the command line names, and its T5 in the subfolder `t5`."""
    parser = argparse.ArgumentParser(description="Write a checkpoint with random weights.")
    parser.add_argument("model", type=Path, help="folder with model_config.json and t5_config.json")
    parser.add_argument("output", type=Path, help="folder to write")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    t5_config = json.loads((arguments.model / "t5_config.json").read_text(encoding="utf-8"))
    model_config = json.loads((arguments.model / CONFIG).read_text(encoding="utf-8"))
    write_checkpoint(arguments.output, model_config, t5_config["d_model"], arguments.seed)
    write_t5(arguments.output / "t5", t5_config, arguments.seed)


if __name__ == "__main__":
    main()
