"""The conditioner: prompts and numbers to the conditioning inputs of the DiT."""

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
    """Conditioning inputs of the DiT for b clips.

    Attributes:
        cross_attention: Tokens, float32 [b, tokens, width]. Padding tokens are zeros, and are not left out: the reference uses
            no mask in its cross-attention, so they take part in the softmax.
        global_condition: float32 [b, width × number of global conditioners].
    """

    cross_attention: Array
    global_condition: Array


class Conditioner:
    """Prompts and numbers to conditioning.

    Args:
        config: The conditioners, and how their outputs are combined.
        tokenizer: Prompts to token ids.
        text_encoder: Token ids and attention mask to embeddings.
        number_conditioner: Each number to one token.
    """

    def __init__(
        self,
        config: manifest.Conditioners,
        tokenizer: Tokenizer,
        text_encoder: GraphSession,
        number_conditioner: GraphSession,
    ) -> None:
        self._config = config
        self._tokenizer = tokenizer
        self._text_encoder = text_encoder
        self._number_conditioner = number_conditioner

    def __call__(self, prompts: Sequence[str], numbers: Mapping[str, Sequence[float]]) -> Conditioning:
        """Compute the conditioning of b clips.

        Args:
            prompts: b prompts.
            numbers: b values for each number conditioner of the model, by its id. The graph clamps each to its range.

        Raises:
            NumericalError: A network returned NaN or infinite values.
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
        """Embeddings of prompts, float32 [b, max_length, width], with zeros for padding tokens.

        The text encoder ignores padding. So it runs only on as many tokens as the longest prompt has.
        """
        ids, mask = self._tokenizer(prompts)
        length = max(1, int(mask.sum(axis=1).max(initial=0)))
        (embeddings,) = self._text_encoder.run(input_ids=ids[:, :length], attention_mask=mask[:, :length])
        embeddings = embeddings * mask[:, :length, None].astype(np.float32)
        return np.pad(embeddings, ((0, 0), (0, ids.shape[1] - length), (0, 0)))
