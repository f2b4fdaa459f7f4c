"""Names the kind of a clip with the trained classifier; and the numbers of the sounds that measurements use."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from models.sao_tiny.features import features
from models.sao_tiny.requests import KINDS
from sao_onnx.runtime.onnx_runtime import ort

Audio = np.ndarray[Any, np.dtype[np.float32]]

FIRST = 9_000_000
"""Number of the first unseen sound of all measurements."""


class KindClassifier:
    """Names the kind of a clip."""

    def __init__(self) -> None:
        path = Path(__file__).parent / "classifier.onnx"
        self._session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def kind(self, audio: Audio) -> str:
        """The most likely of `KINDS`."""
        (logits,) = self._session.run(["logits"], {"spectrogram": features(audio)[None]})
        return KINDS[int(np.argmax(logits))]
