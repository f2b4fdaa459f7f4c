"""Prompts to token ids, equal to those of the reference's tokenizer."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer as _Tokenizer

from sao_onnx.bundle.manifest import Prompt
from sao_onnx.errors import BundleError, SaoOnnxWarning
from sao_onnx.reading import read_small
from sao_onnx.warn import warn

LARGEST = 64_000_000
"""Bytes of the largest tokenizer that is read. T5's has 2.4 million; those of the largest vocabularies have 35."""

Ids = np.ndarray[Any, np.dtype[np.int64]]
"""int64 [b, max_length]."""


class PromptWarning(SaoOnnxWarning):
    """A prompt has more tokens than the model reads, and was cut."""


class Tokenizer:
    """The tokenizer of a bundle. It cuts and pads every prompt to the length that the model reads.

    Args:
        path: The tokenizer's file.
        prompt: The text conditioner, with that length and the padding token.

    Raises:
        BundleError: The file is no tokenizer.
    """

    def __init__(self, path: Path, prompt: Prompt) -> None:
        self._path, self._prompt = path, prompt
        try:
            data = read_small(path, LARGEST)
        except OSError as error:
            raise BundleError(f"{path} cannot be read: {error}") from error
        with self._typed():
            self._tokenizer = _Tokenizer.from_buffer(data)
            self._tokenizer.no_padding()
            self._tokenizer.enable_truncation(prompt.max_length)

    @contextlib.contextmanager
    def _typed(self) -> Iterator[None]:
        """Whatever the library fails with becomes a `BundleError`. Its panics are no `Exception`."""
        try:
            yield
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:
            said = " ".join(str(error).split())
            raise BundleError(
                f"{self._path} cannot be used as a tokenizer: {said:.300}; check the bundle with `sao-onnx verify`"
            ) from error

    def __call__(self, prompts: Sequence[str]) -> tuple[Ids, Ids]:
        """Tokenize b prompts.

        A prompt that is too long is cut, with a `PromptWarning` that shows where.

        Returns:
            Token ids, int64 [b, max_length]; and the attention mask of the same shape and dtype, 1 for tokens and 0 for
            padding.

        Raises:
            BundleError: The tokenizer fails, or makes too many tokens.
        """
        ids = np.full((len(prompts), self._prompt.max_length), self._prompt.pad_id, dtype=np.int64)
        mask = np.zeros_like(ids)
        with self._typed():
            encodings = self._tokenizer.encode_batch(list(prompts))
        for row, (prompt, encoding) in enumerate(zip(prompts, encodings, strict=True)):
            if len(encoding.ids) > ids.shape[1]:
                raise BundleError(f"{self._path} makes {len(encoding.ids)} tokens, expected at most {ids.shape[1]}")
            ids[row, : len(encoding.ids)] = encoding.ids
            mask[row, : len(encoding.ids)] = 1
            if encoding.overflowing:
                self._warn(prompt, encoding.overflowing[0].offsets[0][0])
        return ids, mask

    def _warn(self, prompt: str, cut: int) -> None:
        rest = prompt[cut:].lstrip()
        warn(
            f"the prompt is longer than the {self._prompt.max_length} tokens that the model reads; it was cut before "
            f"{rest[:40]!r} (character {len(prompt) - len(rest) + 1} of {len(prompt)})",
            PromptWarning,
        )
