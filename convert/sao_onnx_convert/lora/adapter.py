"""Reads a LoRA: finds out which program wrote it."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Mapping
from pathlib import Path

from sao_onnx.bundle.checked import digest
from sao_onnx_convert.errors import CheckpointError
from sao_onnx_convert.lora import loraw, peft, stable_audio_tools
from sao_onnx_convert.lora.low_rank import Adapter, LowRank, listed
from sao_onnx_convert.lora.stored import Stored, read_stored

EXPECTED = "expected one of stable-audio-tools or LoRAW, or a folder of PEFT"


def read_adapter(path: str | Path, strength: float = 1.0, note: Callable[[str], None] = lambda text: None) -> Adapter:
    """Read a LoRA.

    Args:
        path: A file of stable-audio-tools (.safetensors, .ckpt) or LoRAW (.ckpt, .safetensors), or a folder of PEFT.
        strength: What its changes are multiplied by; also negative. 0 leaves the model as it is.
        note: Gets a line where something had to be assumed.

    Raises:
        CheckpointNotFoundError: There is no such file.
        CheckpointError: It is no LoRA, or one that cannot be merged, or is damaged; or the strength is not finite.
    """
    if isinstance(strength, bool) or not isinstance(strength, numbers.Real) or not math.isfinite(strength):
        raise CheckpointError(f"the strength of {path} is {strength!r}, expected a finite number, for example 0.8")
    try:
        place = Path(path).expanduser()
        folder = peft.folder_of(place)
        file = place if folder is None else peft.weights_of(folder)
        stored = read_stored(file)
        layers = _layers(file, stored, note) if folder is None else peft.layers(folder, stored)
        if not layers:
            raise CheckpointError(f"{place} holds no LoRA; {EXPECTED}")
        return Adapter(str(place), (folder or place).resolve().name, float(strength), digest(file), layers)
    except (OSError, ValueError, TypeError, RuntimeError, OverflowError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"the LoRA {path} cannot be read: {error}") from error


def _layers(file: Path, stored: Stored, note: Callable[[str], None]) -> Mapping[str, LowRank]:
    names = stored.tensors
    if stable_audio_tools.is_mine(names):
        return stable_audio_tools.layers(str(file), stored, note)
    if loraw.is_mine(names):
        return loraw.layers(file, stored, note)
    if peft.is_mine(names):
        raise CheckpointError(f"{file} is a LoRA of PEFT, whose settings are in {peft.CONFIG}; name the folder that holds both")
    raise CheckpointError(f"{file} holds no LoRA that is known: found {listed(names) or 'no tensors'}; {EXPECTED}")
