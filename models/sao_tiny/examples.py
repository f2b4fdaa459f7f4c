"""What the transformer learns from: latents of sounds with the embeddings of their prompts, and batches of them."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from models.sao_tiny.data import Order
from models.sao_tiny.latents import Latents
from models.sao_tiny.nameless import token
from models.sao_tiny.requests import Sound
from models.sao_tiny.text import Reader

SHARES = (0.26, 0.2, 0.3, 0.24)
"""Of tones, loops, all others and nameless tones in a batch."""

NAMELESS = 3

WITHOUT_PROMPT = 0.05
"""Share of sounds that are shown without a prompt, so that guidance has something to lead away from."""


class Examples:
    """Sounds with their latents and the embeddings of their prompts, and batches of them."""

    def __init__(self, latents: Latents, order: Order, reader: Reader, device: torch.device) -> None:
        self.latents, self.device = latents, device
        self._encoder = cast(Any, reader.encoder).to(device)
        sounds = [order.sound(index)[1] for index in range(order.count)]
        self.kinds = [sound.kind for sound in sounds]
        nameless = np.array([order.is_nameless(index) for index in range(order.count)])
        families = np.where(nameless, NAMELESS, [family(sound) for sound in sounds])
        self._shares = (np.array(SHARES) / np.bincount(families, minlength=len(SHARES)).clip(1))[families]
        self._tokens = {index: torch.from_numpy(token(order.numbers(index))) for index in np.flatnonzero(nameless).tolist()}
        self.families = torch.from_numpy(families).to(device)
        self.seconds = torch.tensor([sound.seconds for sound in sounds], device=device)
        width = self._encoder.config.d_model
        self.prompts = torch.zeros((*latents.ids.shape, width), dtype=torch.float16, device=device)
        """Embeddings, [count, prompts, tokens, width], zeros behind the text."""

    @torch.no_grad()
    def grow(self, at_least: int = 0) -> None:
        """Take over what has become ready."""
        before = self.latents.count
        self.latents.grow(at_least)
        for start in range(before, self.latents.count, 64):
            rows = slice(start, min(start + 64, self.latents.count))
            ids = self.latents.ids[rows].long()
            mask = (ids != 0).long()
            found = self._encoder(input_ids=ids.flatten(0, 1), attention_mask=mask.flatten(0, 1)).last_hidden_state
            self.prompts[rows] = (found.view(*ids.shape, -1) * mask[..., None]).half()
            for row in range(rows.start, rows.stop):
                if row in self._tokens:
                    self.prompts[row, :, -1] = self._tokens[row]

    def draw(self, rng: np.random.Generator, count: int) -> dict[str, Tensor]:
        """Rows of the latents [count], which of their prompts, and whether it is shown."""
        shares = self._shares[: self.latents.count]
        found = {
            "rows": rng.choice(self.latents.count, size=count, p=shares / shares.sum()),
            "prompts": rng.integers(self.prompts.shape[1], size=count),
            "shown": (rng.random(count) >= WITHOUT_PROMPT).astype(np.float32),
        }
        return {name: torch.from_numpy(values).to(self.device) for name, values in found.items()}

    def conditioning(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Embeddings of the prompts [b, tokens, width], lengths in seconds [b], what is shown [b]."""
        return self.prompts[batch["rows"], batch["prompts"]].float(), self.seconds[batch["rows"]], batch["shown"]


def family(sound: Sound) -> int:
    """0 for tones, 1 for loops, 2 for all others; nameless tones are `NAMELESS`."""
    return 0 if sound.note else 1 if sound.tempo else 2
