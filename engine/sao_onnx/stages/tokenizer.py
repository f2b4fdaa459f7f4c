"""Prompts to token ids, as the reference's tokenizer gives them."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer as _Tokenizer

from sao_onnx.bundle.manifest import Prompt
from sao_onnx.errors import BundleError, SaoOnnxWarning

Ids = np.ndarray[Any, np.dtype[np.int64]]


class PromptWarning(SaoOnnxWarning):
    """A prompt was longer than the model reads."""


class Tokenizer:
    """The bundle's tokenizer, cutting and padding to the model's length.

    Raises:
        BundleError: The file is not a tokenizer.
    """

    def __init__(self, path: Path, prompt: Prompt) -> None:
        try:
            self._tokenizer = _Tokenizer.from_file(str(path))
        except Exception as error:  # The library raises bare Exception.
            raise BundleError(f"{path} cannot be read as a tokenizer: {error}") from error
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(prompt.max_length)
        self._prompt = prompt

    def __call__(self, prompts: Sequence[str]) -> tuple[Ids, Ids]:
        """Tokenize prompts.

        A prompt that does not fit is cut, with a `PromptWarning` that shows where.

        Returns:
            Token ids and attention mask, int64 [b, max_length] each.
        """
        ids = np.full((len(prompts), self._prompt.max_length), self._prompt.pad_id, dtype=np.int64)
        mask = np.zeros_like(ids)
        for row, (prompt, encoding) in enumerate(zip(prompts, self._tokenizer.encode_batch(list(prompts)), strict=True)):
            ids[row, : len(encoding.ids)] = encoding.ids
            mask[row, : len(encoding.ids)] = 1
            if encoding.overflowing:
                self._warn(prompt, encoding.overflowing[0].offsets[0][0])
        return ids, mask

    def _warn(self, prompt: str, cut: int) -> None:
        rest = prompt[cut:].lstrip()
        warnings.warn(
            f"the prompt is longer than the {self._prompt.max_length} tokens that the model reads; it was cut before "
            f"{rest[:40]!r} (character {len(prompt) - len(rest) + 1} of {len(prompt)})",
            PromptWarning,
            stacklevel=3,
        )
