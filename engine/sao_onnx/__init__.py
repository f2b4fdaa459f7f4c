"""Text to audio with Stable Audio Open Small on small machines: ONNX Runtime and NumPy, no PyTorch.

    >>> import sao_onnx
    >>> engine = sao_onnx.load()  # sao-tiny, the model that comes with the package; or the folder or name of another
    >>> clip = engine.generate("128 BPM tech house drum loop", seed=42)
    >>> clip.save("loop.wav")

Names are loaded when they are first used, so that importing the package costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sao_onnx.audio.picture import plot
    from sao_onnx.bundle.bundle import Bundle, open_bundle
    from sao_onnx.bundle.manifest import Manifest
    from sao_onnx.clip import Clip, Timings
    from sao_onnx.engine import Engine, load
    from sao_onnx.errors import (
        AudioFileError,
        BundleError,
        BundleNotFoundError,
        Error,
        MissingExtraError,
        MissingRuntimeError,
        NotEnoughMemoryError,
        NumericalError,
        OutputExistsError,
        ProviderError,
        RequestError,
        SaoOnnxWarning,
    )
    from sao_onnx.events import Conditioned, Decoded, Event, Finished, Sampled
    from sao_onnx.provenance import Recipe, recipe_of
    from sao_onnx.runtime.tuning import Tuning

__version__ = "0.1.0"

_HOMES = {
    "bundle.bundle": ("Bundle", "open_bundle"),
    "clip": ("Clip", "Timings"),
    "engine": ("Engine", "load"),
    "errors": (
        "AudioFileError",
        "BundleError",
        "BundleNotFoundError",
        "Error",
        "MissingExtraError",
        "MissingRuntimeError",
        "NotEnoughMemoryError",
        "NumericalError",
        "OutputExistsError",
        "ProviderError",
        "RequestError",
        "SaoOnnxWarning",
    ),
    "events": ("Conditioned", "Decoded", "Event", "Finished", "Sampled"),
    "bundle.manifest": ("Manifest",),
    "audio.picture": ("plot",),
    "provenance": ("Recipe", "recipe_of"),
    "runtime.tuning": ("Tuning",),
}

__all__ = [
    "AudioFileError",
    "Bundle",
    "BundleError",
    "BundleNotFoundError",
    "Clip",
    "Conditioned",
    "Decoded",
    "Engine",
    "Error",
    "Event",
    "Finished",
    "Manifest",
    "MissingExtraError",
    "MissingRuntimeError",
    "NotEnoughMemoryError",
    "NumericalError",
    "OutputExistsError",
    "ProviderError",
    "Recipe",
    "RequestError",
    "Sampled",
    "SaoOnnxWarning",
    "Timings",
    "Tuning",
    "load",
    "open_bundle",
    "plot",
    "recipe_of",
]


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"sao_onnx.{module}"), name)
    raise AttributeError(f"module 'sao_onnx' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
