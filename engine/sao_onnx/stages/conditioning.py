"""Prompt and numbers to what steers the DiT."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sao_onnx.arrays import Array
from sao_onnx.bundle import manifest
from sao_onnx.runtime.sessions import GraphSession
from sao_onnx.stages.tokenizer import Tokenizer


@dataclass(frozen=True)
class Conditioning:
    """What steers the DiT, for b clips.

    Attributes:
        cross_attention: Tokens, float32 [b, tokens, width]. Padding tokens are zero but present: the reference masks nothing
            in its cross-attention, so they take part in the softmax.
        global_condition: float32 [b, width × global conditioners].
    """

    cross_attention: Array
    global_condition: Array


class Conditioner:
    """Text encoder and number conditioner.

    Args:
        config: How the conditioners are put together.
        tokenizer: The bundle's.
        text_encoder: Ids and mask to embeddings.
        number_conditioner: Numbers to one token each.
    """

    def __init__(
        self,
        config: manifest.Conditioning,
        tokenizer: Tokenizer,
        text_encoder: GraphSession,
        number_conditioner: GraphSession,
    ) -> None:
        self._config = config
        self._tokenizer = tokenizer
        self._text_encoder = text_encoder
        self._number_conditioner = number_conditioner

    def __call__(self, prompts: Sequence[str], numbers: Mapping[str, Sequence[float]]) -> Conditioning:
        """Condition b clips.

        Args:
            prompts: b texts.
            numbers: b values for every number conditioner of the model; each is clamped to its range by the graph.
        """
        tokens = {self._config.prompt.id: self._embed(prompts)}
        names = [number.id for number in self._config.numbers]
        embedded = self._number_conditioner.run(**{name: np.asarray(numbers[name], dtype=np.float32) for name in names})
        tokens |= dict(zip(names, embedded, strict=True))
        return Conditioning(
            np.concatenate([tokens[id] for id in self._config.cross_attention], axis=1),
            np.concatenate([tokens[id][:, 0] for id in self._config.global_condition], axis=1),
        )

    def _embed(self, prompts: Sequence[str]) -> Array:
        """Embeddings [b, max_length, width], zero at padding.

        The encoder ignores padding, so it runs on the longest prompt's tokens alone, and zeros stand for the rest.
        """
        ids, mask = self._tokenizer(prompts)
        length = max(1, int(mask.sum(axis=1).max(initial=0)))
        (embeddings,) = self._text_encoder.run(input_ids=ids[:, :length], attention_mask=mask[:, :length])
        embeddings = embeddings * mask[:, :length, None].astype(np.float32)
        return np.pad(embeddings, ((0, 0), (0, ids.shape[1] - length), (0, 0)))
