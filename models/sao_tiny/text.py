"""Trains the tokenizer and the T5 encoder.

The encoder is trained before all else: from the embedding of its last token, a linear layer must tell what a prompt asks for,
as numbers (`targets.py`). So the diffusion transformer is given the meaning of a prompt, not its letters. Numbers and not
likelihoods of classes: those are never high enough, and in the end the encoder learned from the combinations that are held out
which kinds never occur, so that it misread one in eleven unseen prompts, and none of those seen.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from torch import Tensor, nn
from transformers import T5Config, T5EncoderModel

from models.sao_tiny.data import encode, training_sound
from models.sao_tiny.loop import Schedule, fit
from models.sao_tiny.optimizers import adamw
from models.sao_tiny.requests import describe
from models.sao_tiny.targets import NUMBERS, numbers

PAD, END, UNKNOWN = "<pad>", "</s>", "<unk>"
PROMPTS = 30_000
BATCH = 128
SCHEDULE = Schedule(steps=2400)
RATE = 1e-3


def train_tokenizer(path: Path) -> Tokenizer:
    """A Unigram tokenizer in the manner of T5, trained on prompts. Capital letters are read as small ones."""
    if path.is_file():
        return Tokenizer.from_file(str(path))
    result = Tokenizer(models.Unigram())
    result.normalizer = normalizers.Sequence(
        [normalizers.NFKC(), normalizers.Lowercase(), normalizers.Replace(" {2,}", " "), normalizers.Strip()]
    )
    result.pre_tokenizer = pre_tokenizers.Metaspace()
    result.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=1024,
        special_tokens=[PAD, END, UNKNOWN],
        unk_token=UNKNOWN,
        initial_alphabet=[chr(code) for code in range(33, 127)],
        show_progress=False,
    )
    result.train_from_iterator((describe(*training_sound(index)) for index in range(PROMPTS)), trainer)
    result.post_processor = processors.TemplateProcessing("$A </s>", special_tokens=[(END, result.token_to_id(END))])
    path.parent.mkdir(parents=True, exist_ok=True)
    result.save(str(path))
    return result


class Reader(nn.Module):
    """The encoder, and the linear layer that it is examined with."""

    def __init__(self, config: dict[str, object]) -> None:
        super().__init__()
        self.encoder = T5EncoderModel(T5Config(**config))  # type: ignore[no-untyped-call]
        self.told = nn.Linear(int(str(config["d_model"])), NUMBERS)

    def embeddings(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Embeddings of tokens [b, n], zeros behind each prompt, [b, n, width]; and where their last tokens are, [b]."""
        mask = (ids != 0).long()
        return self.encoder(input_ids=ids, attention_mask=mask).last_hidden_state * mask[..., None], mask.sum(1) - 1

    def forward(self, ids: Tensor) -> Tensor:
        """What prompts ask for, [b, NUMBERS]."""
        embeddings, ends = self.embeddings(ids)
        told: Tensor = self.told(embeddings[torch.arange(len(ids)), ends])
        return told


def untrained(config: Path) -> Reader:
    """The encoder of a configuration file and its linear layer, not trained."""
    torch.manual_seed(0)
    return Reader(json.loads(config.read_text(encoding="utf-8")))


def train(model: Reader, tokenizer: Tokenizer, folder: Path, say: Callable[[str], None]) -> None:
    """Train the encoder and its linear layer in place, or finish a training that was cut off."""
    optimizers = [adamw(model.parameters(), lr=RATE, weight_decay=0.01)]
    fit("text", folder, model, optimizers, SCHEDULE, _Reading(model, tokenizer), say)
    # Rounded to half precision, as the model's T5 is kept.
    model.encoder.half().float()  # type: ignore[no-untyped-call]


class _Reading:
    """Prompts, and what they ask for."""

    def __init__(self, model: Reader, tokenizer: Tokenizer) -> None:
        self._model, self._tokenizer = model, tokenizer

    def phase(self, progress: float) -> int:
        return 0

    def draw(self, step: int, progress: float) -> dict[str, Tensor]:
        sounds = [training_sound(BATCH * step + index) for index in range(BATCH)]
        ids = torch.from_numpy(encode(self._tokenizer, [describe(rng, sound) for rng, sound in sounds])).long()
        return {"ids": ids[:, : int((ids != 0).sum(1).max())], "truth": numbers([sound for _, sound in sounds])}

    def losses(self, phase: int, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"loss": (self._model(batch["ids"]) - batch["truth"]).square().mean()}
