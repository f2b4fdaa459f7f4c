"""The weights that training of the transformer begins with.

From random weights it learns what all sounds have in common, and then for long nothing: a held tone is nothing on average, and
no slope leads from there to the phase that this note has come to in this place. So the beginning lays out what is known:

- Latents stand in the first channels of a token, and go out as they came in: the velocity of pure noise in front of silence.
- The place of a token stands behind them, as waves: those that repeat every 64 latents, as held tones do, and slower ones.
- The prompt comes next, `TOLD` numbers of it, read from the end of its text, where the text encoder learned to say what is
  asked for; and the length of the clip.
- Last stands what the first block finds: where in its beat and in its bar a place is, at the tempo asked for; and how long
  after the end. That is as loud as to drown everything else in the normalisation of later blocks, so that they fall silent.
- Feed-forward layers have units for every note, each of which holds a phase of a harmonic; units that hold a latent; and units
  that hold places. What is told and found opens and closes them.

What becomes of all this is left to training: no other unit has a say as it begins.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from models.sao_tiny.requests import HIGHEST_NOTE, HIGHEST_TEMPO, LOWEST_NOTE, LOWEST_TEMPO
from models.sao_tiny.signals import REPEAT, SAMPLE_RATE, tuned
from models.sao_tiny.sounds import hertz
from sao_onnx_convert.networks.conditioners import NumberConditioner
from sao_onnx_convert.networks.dit import DiffusionTransformer, FeedForward

TOLD = 39
"""Channels of a token that stand for the prompt; the last of them for the length."""

FOUND = 5
"""Channels of a token that stand for what the first block finds: cosine and sine of the bar, of the beat, and the end."""

SLOW = 20
"""Channels of a token that stand for slow waves of its place."""

HARMONICS = ((), (1, 2, 3), (1, 2, 4), (1, 3, 5))
"""Harmonics of every note that the units of each block hold."""

AFTER = 8
"""Units that hold how long ago a clip ended."""

OPEN = 4.0
"""What opens a gate, before its nonlinearity."""


@dataclass(frozen=True)
class Examples:
    """Prompts, and what is true of them.

    Attributes:
        texts: Embeddings, zeros behind each, float32 [prompts, tokens, width].
        ends: Where their last token is, int64 [prompts].
        facts: What the text encoder says of each, as numbers, float32 [prompts, numbers].
        notes: The MIDI notes that they ask for, else 0, int64 [prompts].
        tempos: The beats a minute that they ask for, else 0, int64 [prompts].
    """

    texts: Tensor
    ends: Tensor
    facts: Tensor
    notes: Tensor
    tempos: Tensor


@torch.no_grad()
def begin(dit: DiffusionTransformer, length: NumberConditioner, examples: Examples, frames: int) -> None:
    """Give the transformer and the embedding of the length the weights that training starts from.

    Args:
        dit: Changed in place.
        length: Changed in place.
        examples: To read prompts by.
        frames: Frames of audio in a latent.
    """
    for name, parameter in dit.named_parameters():
        if name.endswith(("to_out.weight", "ff.2.weight", "ff.2.bias")) or "process_conv" in name:
            nn.init.zeros_(parameter)
    inside = dit.transformer
    nn.init.eye_(inside.project_in.weight)
    nn.init.eye_(inside.project_out.weight)
    assert inside.pos_emb is not None
    table, channels = inside.pos_emb.emb.weight, inside.project_in.weight.shape[1]
    width = table.shape[1]
    layout = Layout(
        latents=slice(0, channels),
        places=slice(channels, width - TOLD - FOUND),
        slow=slice(width - TOLD - FOUND - SLOW - 1, width - TOLD - FOUND),
        told=slice(width - TOLD - FOUND, width - FOUND),
        found=slice(width - FOUND, width),
        frames=frames,
        window=len(table) - 1,
    )
    waves = _places(layout)
    table.zero_()
    # The embedding is divided by the root of the width. The first token is no latent, and has no place.
    table[1:, layout.places] = math.sqrt(width) * waves
    told = _tell(dit, length, examples, layout)
    notes = _keys(told, [examples.notes == note for note in range(LOWEST_NOTE, HIGHEST_NOTE + 1)])
    near = [(examples.tempos - tempo).abs() <= 1 for tempo in range(LOWEST_TEMPO, HIGHEST_TEMPO + 1)]
    tempos = _keys(told, near)
    for index, block in enumerate(cast(Any, inside.layers)):
        units = Units(block.ff, layout)
        if index == 0:
            units.find_beats(tempos, told, waves)
            units.find_end()
        units.hold_notes(notes, HARMONICS[index % len(HARMONICS)])
        units.hold_latents()
        units.hold_places()


@dataclass(frozen=True)
class Layout:
    """Which channels of a token stand for what; audio frames in a latent; latents in the window."""

    latents: slice
    places: slice
    slow: slice
    told: slice
    found: slice
    frames: int
    window: int

    @property
    def seconds(self) -> float:
        """Length of the window."""
        return self.window * self.frames / SAMPLE_RATE


def _places(layout: Layout) -> Tensor:
    """Waves over the places, as large as a latent, the last of them `Layout.slow`: a line, then slow waves. [window, waves]."""
    place = torch.arange(layout.window).double()
    repeat = REPEAT // layout.frames
    angles = 2 * math.pi * place[:, None] * torch.arange(1, repeat // 2) / repeat
    waves = [angles.cos() * math.sqrt(2), angles.sin() * math.sqrt(2), torch.cos(math.pi * place)[:, None]]
    waves.append(((2 * place / (layout.window - 1) - 1) * math.sqrt(3))[:, None])
    # Those slow waves that are not among the ones above, for they come to the end of the window as often as 64 latents do.
    slow = [k for k in range(1, 4 * SLOW) if k * repeat % layout.window][: SLOW // 2]
    angles = 2 * math.pi * place[:, None] * torch.tensor(slow) / layout.window
    waves += [angles.cos() * math.sqrt(2), angles.sin() * math.sqrt(2)]
    return torch.cat(waves, dim=1).float()


def _tell(dit: DiffusionTransformer, length: NumberConditioner, examples: Examples, layout: Layout) -> Tensor:
    """Let cross-attention read the end of the text and the length. Returns what is told of the prompts, [prompts, TOLD]."""
    first, _, second = cast(Any, dit.to_cond_embed)
    # Through SiLU nearly as it came.
    nn.init.eye_(first.weight).mul_(0.4)
    nn.init.eye_(second.weight).mul_(5.0)
    texts, ends, facts = examples.texts, examples.ends, examples.facts
    real = texts.abs().sum(-1) > 0
    context = dit.to_cond_embed(texts)
    tokens, last = context[real], context[torch.arange(len(ends)), ends]
    # The direction in which all tokens of a text lie, and against it the length's.
    ahead = _fitted(tokens, torch.ones(len(tokens), 1))[:, 0]
    linear = cast(Any, length.embedder.embedding)[1]
    nn.init.normal_(linear.weight, std=0.02)
    nn.init.normal_(linear.weight[:, 0], std=2.0)
    linear.bias.copy_(-8 * ahead[: len(linear.bias)] / ahead.norm())
    seconds = torch.linspace(length.minimum, length.maximum, 64)
    lengths = dit.to_cond_embed(length(seconds)[:, 0])
    # The direction in which the last token of a text lies, and all else against it.
    others = torch.cat([context[real & (torch.arange(context.shape[1]) != ends[:, None])], lengths])
    end = _separating(last, others)

    blocks = cast(Any, dit.transformer.layers)
    heads, size = blocks[0].cross_attn.heads, len(blocks[0].cross_attn.q_norm.weight)
    # What the facts vary in most, as numbers that vary by 1.
    linear_facts = _fitted(torch.cat([last, torch.ones(len(last), 1)], dim=1), facts)[:-1]
    _, deviations, directions = torch.linalg.svd((last - last.mean(0)) @ linear_facts, full_matrices=False)
    best = slice(0, (heads - 1) * size)
    reading = (linear_facts @ directions[best].T) * (len(last) ** 0.5 / deviations[best].clamp(min=1.0))
    line = _fitted(lengths, (2 * seconds[:, None] / layout.seconds - 1) * math.sqrt(3))[:, 0]

    signs = torch.ones(size)
    signs[1::2] = -1
    for block in blocks:
        attention = block.cross_attn
        keys, values = (weight.unflatten(0, (heads, size)) for weight in attention.to_kv.weight.chunk(2))
        keys[:-1] = signs[:, None] * end / end.norm()
        keys[-1] = -signs[:, None] * ahead / ahead.norm()
        values.flatten(0, 1)[: reading.shape[1]] = reading.T
        values[-1, 0] = line
        attention.q_norm.weight.fill_(0.05)
        attention.q_norm.bias.copy_(signs)
    out = blocks[0].cross_attn.to_out.weight
    out[layout.told.start : layout.told.stop - 1, : TOLD - 1] = torch.eye(TOLD - 1)
    out[layout.told.stop - 1, -size] = 1.0
    told = last @ reading[:, : TOLD - 1]
    return torch.cat([told, torch.zeros(len(told), 1)], dim=1)


def _fitted(rows: Tensor, wanted: Tensor) -> Tensor:
    """Least squares, where rows may have less than full rank."""
    found: Tensor = torch.linalg.lstsq(rows, wanted, driver="gelsd").solution
    return found


def _separating(inside: Tensor, outside: Tensor) -> Tensor:
    """Weights that give rows of one kind a sum above 0 and all others one below: logistic regression, both count the same."""
    rows = torch.cat([inside, -outside]).double()
    shares = torch.cat([torch.full((len(part),), 1 / len(part)) for part in (inside, outside)]).double()
    ridge = 1e-3 * torch.eye(rows.shape[1]).double()
    weights = torch.zeros(rows.shape[1]).double()
    for _ in range(20):  # Newton's steps
        miss = torch.sigmoid(-rows @ weights)
        slope = rows.T @ (shares * miss) - ridge @ weights
        curvature = (rows * (shares * miss * (1 - miss))[:, None]).T @ rows + ridge
        weights += torch.linalg.solve(curvature, slope)
    return weights.float()


def _keys(told: Tensor, members: list[Tensor]) -> tuple[Tensor, Tensor]:
    """What opens units for some prompts [groups of bool [prompts]]: weights of what is told [groups, TOLD], biases [groups]."""
    rows = torch.cat([told, torch.ones(len(told), 1)], dim=1)
    found = torch.stack([_separating(rows[ours], rows[~ours]) for ours in members])
    found *= torch.stack([OPEN / (rows[ours] @ keys).mean() for ours, keys in zip(members, found, strict=True)])[:, None]
    return found[:, :-1], found[:, -1]


class Units:
    """The units of a feed-forward layer, given out one after the other: what each holds, and what opens it."""

    def __init__(self, layer: FeedForward, layout: Layout) -> None:
        first, self._out = cast(Any, layer.ff[0]).proj, cast(nn.Linear, layer.ff[2])
        self._layout = layout
        self._values, self._gates = first.weight.chunk(2)
        self._value_biases, self._gate_biases = first.bias.chunk(2)
        self._values.zero_()
        self._gates.zero_()
        first.bias.zero_()
        # By what is told and when, and in later blocks by what was found.
        nn.init.normal_(self._gates[:, layout.slow], std=0.25)
        nn.init.normal_(self._gates[:, layout.told], std=1.5 * TOLD**-0.5)
        self._next = 0

    def _take(self, count: int) -> slice:
        units = slice(self._next, self._next + count)
        self._next += count
        return units

    def find_beats(self, keys: tuple[Tensor, Tensor], told: Tensor, waves: Tensor) -> None:
        """Units for every tempo, which say what its bar and its beat have come to at a place."""
        seconds = torch.arange(self._layout.window) * (self._layout.frames / SAMPLE_RATE)
        open_ = nn.functional.silu(told @ keys[0].T + keys[1])
        size = open_.sum(1)[open_.amax(1) > 0.5 * OPEN].mean()
        for index, (weights, bias) in enumerate(zip(*keys, strict=True)):
            turns = seconds * (LOWEST_TEMPO + index) / 60
            angles = 2 * math.pi * torch.stack([turns / 4, turns])
            phases = torch.stack([angles.cos(), angles.sin()], dim=1).flatten(0, 1).T
            units = self._take(phases.shape[1])
            self._values[units, self._layout.places] = _fitted(waves, phases).T
            self._gates[units] = 0.0
            self._gates[units, self._layout.told] = weights
            self._gate_biases[units] = bias
            out = self._out.weight[self._layout.found.start : self._layout.found.start + phases.shape[1], units]
            out.copy_(torch.eye(phases.shape[1]) * (math.sqrt(2) / size))

    def find_end(self) -> None:
        """Units that say how long after the end of the clip a place is, together about 10 for each latent."""
        units = self._take(AFTER)
        self._value_biases[units] = 1.0
        self._gates[units] = 0.0
        self._gates[units, self._layout.slow.start], self._gates[units, self._layout.told.stop - 1] = 40.0, -40.0
        nn.init.normal_(self._gate_biases[units], std=2.0)
        self._out.weight[self._layout.found.stop - 1, units] = 2.0

    def hold_notes(self, keys: tuple[Tensor, Tensor], harmonics: tuple[int, ...]) -> None:
        """Units for every note, for the two phases of each harmonic."""
        repeat = REPEAT // self._layout.frames
        for index, (weights, bias) in enumerate(zip(*keys, strict=True)):
            for harmonic in harmonics:
                turns = round(harmonic * tuned(hertz(LOWEST_NOTE + index)) * REPEAT / SAMPLE_RATE) % repeat
                wave = min(turns, repeat - turns)
                if wave in (0, repeat // 2):
                    continue
                units = self._take(2)
                first = self._layout.places.start + wave - 1
                self._values[units, first], self._values[units.start + 1, first] = torch.tensor([1.0, 0.0]), 0.0
                self._values[units.start + 1, first + repeat // 2 - 1] = 1.0
                self._gates[units, self._layout.slow] *= 0.2
                self._gates[units, self._layout.told] = weights
                self._gate_biases[units] = bias

    def hold_latents(self) -> None:
        """Two units for each latent."""
        for _ in range(2):
            units = self._take(self._layout.latents.stop)
            self._values[units, self._layout.latents] = torch.eye(self._layout.latents.stop)

    def hold_places(self) -> None:
        """All units that are left."""
        units = slice(self._next, len(self._values))
        places = self._layout.places
        beats = slice(self._layout.found.start, self._layout.found.stop - 1)
        nn.init.normal_(self._values[units, places], std=(places.stop - places.start) ** -0.5)
        nn.init.normal_(self._values[units, beats], std=0.5)
        nn.init.normal_(self._gates[units, beats], std=1.5)
        nn.init.normal_(self._value_biases[units], std=0.3)
        nn.init.normal_(self._gate_biases[units], std=1.0)
