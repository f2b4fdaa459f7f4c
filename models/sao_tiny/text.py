"""Trains the tokenizer and the T5 encoder.

The encoder learns to read before anything learns to sound: from its embeddings, linear layers that are thrown away afterwards
must tell what a prompt asks for. The diffusion transformer then finds the meaning of a prompt laid out, not its letters.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import T5Config, T5EncoderModel

from models.sao_tiny.data import training_sound
from models.sao_tiny.loop import Schedule, fit
from models.sao_tiny.requests import HIGHEST_NOTE, HIGHEST_TEMPO, KINDS, LOWEST_NOTE, LOWEST_TEMPO, Sound, describe

PAD, END, UNKNOWN = "<pad>", "</s>", "<unk>"
MAX_TOKENS = 32
PROMPTS = 30_000
BATCH = 128
SCHEDULE = Schedule(steps=1200, rate=1e-3)

_CHOICES: dict[str, tuple[str, ...]] = {
    "tone": ("", "bright", "dark"),
    "level": ("", "soft", "loud"),
    "length": ("", "short", "long"),
    "side": ("", "left", "right"),
}
_SIZES = {
    "kind": len(KINDS),
    "note": HIGHEST_NOTE - LOWEST_NOTE + 2,
    "tempo": HIGHEST_TEMPO - LOWEST_TEMPO + 2,
    "distant": 2,
    **{name: len(words) for name, words in _CHOICES.items()},
}


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
    """The encoder, and the linear layers that it is examined with.

    Every fact must be read from the last token alone, and from the mean of all.
    """

    def __init__(self, config: dict[str, object]) -> None:
        super().__init__()
        self.encoder = T5EncoderModel(T5Config(**config))  # type: ignore[no-untyped-call]
        width = int(str(config["d_model"]))
        self.last = nn.ModuleDict({name: nn.Linear(width, size) for name, size in _SIZES.items()})
        self.mean = nn.ModuleDict({name: nn.Linear(width, size) for name, size in _SIZES.items()})
        self.heights = nn.Linear(width, 2)

    def last_facts(self, embeddings: Tensor) -> Tensor:
        """What is said of prompts by the embeddings of their last tokens [b, width]: numbers [b, all choices]."""
        return torch.cat([self.last[name](embeddings) for name in _SIZES], dim=1)

    def forward(self, ids: Tensor) -> tuple[list[dict[str, Tensor]], Tensor]:
        """Logits by fact, from both; and note and tempo as heights in their range."""
        mask = (ids != 0).long()
        embeddings = self.encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        last = embeddings[torch.arange(len(ids)), mask.sum(1) - 1]
        mean = (embeddings * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        facts = [{name: head(x) for name, head in heads.items()} for heads, x in ((self.last, last), (self.mean, mean))]
        return facts, self.heights(last)


def train(tokenizer: Tokenizer, config: Path, folder: Path, device: torch.device, say: Callable[[str], None]) -> Reader:
    """Train the encoder and its linear layers, or finish a training that was cut off."""
    torch.manual_seed(0)
    model = Reader(json.loads(config.read_text(encoding="utf-8"))).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=SCHEDULE.rate, weight_decay=0.01)

    def losses(step: int) -> dict[str, Tensor]:
        sounds = [training_sound(BATCH * step + index) for index in range(BATCH)]
        truth = facts([sound for _, sound in sounds])
        read, heights = model(encode(tokenizer, [describe(rng, sound) for rng, sound in sounds]).to(device))
        entropy = torch.stack(
            [F.cross_entropy(logits, truth[name].to(device)) for part in read for name, logits in part.items()]
        )
        right = torch.stack([(read[0][name].argmax(-1).cpu() == truth[name]).float().mean() for name in _SIZES])
        wanted = torch.stack([truth[name] / _SIZES[name] for name in ("note", "tempo")], dim=1).float().to(device)
        return {"right": right.mean(), "loss": entropy.mean() + (heights - wanted).square().mean()}

    fit("text", folder, model, [optimizer], SCHEDULE, losses, say)
    # Rounded to half precision, as the model's T5 is kept.
    model.encoder.half().float()  # type: ignore[no-untyped-call]
    return model.cpu().eval().requires_grad_(False)


def facts(sounds: Sequence[Sound]) -> dict[str, Tensor]:
    """What is true of sounds, as classes: int64 [sounds] for each of `_SIZES`."""
    return {
        "kind": torch.tensor([KINDS.index(sound.kind) for sound in sounds]),
        "note": torch.tensor([sound.note - LOWEST_NOTE + 1 if sound.note else 0 for sound in sounds]),
        "tempo": torch.tensor([sound.tempo - LOWEST_TEMPO + 1 if sound.tempo else 0 for sound in sounds]),
        "distant": torch.tensor([int(sound.distant) for sound in sounds]),
        **{name: torch.tensor([words.index(getattr(sound, name)) for sound in sounds]) for name, words in _CHOICES.items()},
    }


def encode(tokenizer: Tokenizer, prompts: Sequence[str]) -> Tensor:
    """Token ids, padded with 0 to the longest: int64 [prompts, tokens]."""
    rows = [encoding.ids[:MAX_TOKENS] for encoding in tokenizer.encode_batch(list(prompts))]
    ids = np.zeros((len(rows), max(map(len, rows))), np.int64)
    for row, found in zip(ids, rows, strict=True):
        row[: len(found)] = found
    return torch.from_numpy(ids)
