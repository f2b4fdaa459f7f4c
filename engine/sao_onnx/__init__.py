"""Text to audio with Stable Audio Open Small on small machines: ONNX Runtime and NumPy, no PyTorch.

    >>> import sao_onnx
    >>> engine = sao_onnx.load()  # sao-tiny, the model that comes with the package; or the folder or name of another
    >>> clip = engine.generate("128 BPM tech house drum loop", seed=42)
    >>> clip.save("loop.wav")

Beside these are the types of arguments: `Options`, all options of a clip, for `**options: Unpack[Options]`, and the literals
`SamplerName`, `Normalization` and `Precision`. What is not named here is in its module: `sao_onnx.errors`, `sao_onnx.events`,
`sao_onnx.provenance`, `sao_onnx.request` and so on. Names are loaded when they are first used, so that importing the package
costs nothing.
"""

from __future__ import annotations

import importlib
import logging
import warnings
from typing import TYPE_CHECKING, Any

from sao_onnx.version import __version__ as __version__

if TYPE_CHECKING:
    from sao_onnx.audio.limits import Normalization as Normalization
    from sao_onnx.bundle.manifest import Precision as Precision
    from sao_onnx.bundle.manifest import SamplerName as SamplerName
    from sao_onnx.clip import Clip as Clip
    from sao_onnx.engine import Engine as Engine
    from sao_onnx.engine import load as load
    from sao_onnx.errors import SaoOnnxError as SaoOnnxError
    from sao_onnx.errors import SaoOnnxWarning as SaoOnnxWarning
    from sao_onnx.request import Options as Options
    from sao_onnx.request import Request as Request

logging.getLogger(__name__).addHandler(logging.NullHandler())

_HOMES = {
    "Clip": "clip",
    "Engine": "engine",
    "Normalization": "audio.limits",
    "Options": "request",
    "Precision": "bundle.manifest",
    "Request": "request",
    "SaoOnnxError": "errors",
    "SaoOnnxWarning": "errors",
    "SamplerName": "bundle.manifest",
    "load": "engine",
}

__all__ = list(_HOMES)

_MOVED = {
    "AudioFileError": "errors.AudioFileError",
    "Bundle": "bundle.bundle.Bundle",
    "BundleError": "errors.BundleError",
    "BundleNotFoundError": "errors.BundleNotFoundError",
    "Conditioned": "events.Conditioned",
    "Decoded": "events.Decoded",
    "Error": "errors.SaoOnnxError",
    "Event": "events.Event",
    "Finished": "events.Finished",
    "Manifest": "bundle.manifest.Manifest",
    "MissingExtraError": "errors.MissingExtraError",
    "MissingRuntimeError": "errors.MissingRuntimeError",
    "NotEnoughMemoryError": "errors.NotEnoughMemoryError",
    "NumericalError": "errors.NumericalError",
    "OutputExistsError": "errors.OutputExistsError",
    "ProviderError": "errors.ProviderError",
    "Recipe": "provenance.Provenance",
    "RequestError": "errors.RequestError",
    "Sampled": "events.Sampled",
    "Timings": "clip.Timings",
    "Tuning": "runtime.tuning.Tuning",
    "open_bundle": "bundle.bundle.open_bundle",
    "plot": "audio.picture.plot",
    "recipe_of": "provenance.read_provenance",
}
"""Names that were here before, and where they are now. They go on working for one version, with a warning."""


if not TYPE_CHECKING:
    # Type checkers shall see no more names than there are.

    def __getattr__(name: str) -> Any:
        if name in _HOMES:
            return getattr(importlib.import_module(f"sao_onnx.{_HOMES[name]}"), name)
        if name in _MOVED:
            module, _, present = _MOVED[name].rpartition(".")
            warnings.warn(f"sao_onnx.{name} is now sao_onnx.{_MOVED[name]}", DeprecationWarning, stacklevel=2)
            return getattr(importlib.import_module(f"sao_onnx.{module}"), present)
        raise AttributeError(f"module 'sao_onnx' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
