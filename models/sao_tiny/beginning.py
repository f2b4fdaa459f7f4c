"""The weights that training of the transformer begins with.

From random weights it learns what all sounds have in common, and then for long nothing: a held tone is nothing on average, and
no slope leads from there to the phase that this note has come to in this place. So the beginning lays out what is known:

- Latents stand in the first channels of a token, and go out as they came in: the velocity of pure noise in front of silence.
- The place of a token stands behind them, as waves: those that repeat every 64 latents, as held tones do, and slower ones.
- The prompt comes next, `TOLD` numbers of it, read from the end of its text, where the text encoder learned to say what is
  asked for; and the length of the clip.
- Last stands what the first block finds: where in its beat and in its bar a place is, at the tempo asked for; and whether the
  clip has ended, in several channels, for a single large one would take the steps of 8 bits from all others.
- Feed-forward layers have units for every note, each of which holds a phase of a harmonic; units that hold a latent; and units
  that hold places. What is told and found opens and closes them, and after the end all close but those that hold latents.

What becomes of all this is left to training: no other unit has a say as it begins. But what is learned of a note is learned of
the notes around it (`shared_between_neighbours`), so that a kind can be asked for at a pitch that it never had.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from models.sao_tiny.code import LEFT, NUMBERS, RIGHT
from models.sao_tiny.requests import HIGHEST_NOTE, HIGHEST_TEMPO, LOWEST_NOTE, LOWEST_TEMPO
from models.sao_tiny.signals import REPEAT, SAMPLE_RATE, tuned
from models.sao_tiny.sounds import hertz
from sao_onnx_convert.networks.conditioners import NumberConditioner
from sao_onnx_convert.networks.dit import DiffusionTransformer, FeedForward

TOLD = NUMBERS + 1
"""Channels of a token that stand for the prompt; the last of them for the length."""

BEATS, ENDED = 4, 5
"""Channels of a token that stand for what the first block finds: cosine and sine of the bar and of the beat; and the end."""

SLOW = 20
"""Channels of a token that stand for slow waves of its place."""

BOTH = -1
PARTIALS: tuple[tuple[tuple[float, int], ...], ...] = (
    (),
    ((1, LEFT), (1, RIGHT), (2, LEFT), (2, RIGHT), (6, BOTH)),
    ((1, LEFT), (1, RIGHT), (3, LEFT), (3, RIGHT), (2.76, BOTH)),
    ((4, LEFT), (4, RIGHT), (5, LEFT), (5, RIGHT), (8, BOTH)),
)
"""Partials of every note that the units of each block hold, as multiples, one of them a bell's; and on which side."""

AFTER = 8
"""Units that find the end of a clip."""

OPEN = 4.0
"""What opens a gate, before its nonlinearity."""

LOUD = 7.0
"""What stands in each of the channels for the end, after it. They are a wave's 1 otherwise."""

NEIGHBOURS = 4.0
"""Standard deviation of the notes, or tempos, that learn with one."""


@dataclass(frozen=True)
class Examples:
    """Prompts, and what is true of them.

    Attributes:
        texts: Embeddings, zeros behind each, float32 [prompts, tokens, width].
        ends: Where their last token is, int64 [prompts].
        numbers: What they ask for (`code.numbers`), as the text encoder tells it, float32 [prompts, NUMBERS].
        notes: The MIDI notes that they ask for, else 0, int64 [prompts].
        tempos: The beats a minute that they ask for, else 0, int64 [prompts].
    """

    texts: Tensor
    ends: Tensor
    numbers: Tensor
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
        places=slice(channels, width - TOLD - BEATS - ENDED),
        slow=slice(width - TOLD - BEATS - ENDED - SLOW - 1, width - TOLD - BEATS - ENDED),
        told=slice(width - TOLD - BEATS - ENDED, width - BEATS - ENDED),
        beats=slice(width - BEATS - ENDED, width - ENDED),
        ended=slice(width - ENDED, width),
        frames=frames,
        window=len(table) - 1,
    )
    waves = _places(layout)
    table.zero_()
    # The embedding is divided by the root of the width. The first token is no latent, and has no place.
    table[1:, layout.places] = math.sqrt(width) * waves
    told = _tell(dit, length, examples, layout)
    notes = _keys(told, [examples.notes == note for note in range(LOWEST_NOTE, HIGHEST_NOTE + 1)])
    tempos = _keys(told, [examples.tempos == tempo for tempo in range(LOWEST_TEMPO, HIGHEST_TEMPO + 1)])
    for index, block in enumerate(cast(Any, inside.layers)):
        units = Units(block.ff, layout)
        if index == 0:
            units.find_beats(tempos, told, waves)
            units.find_end()
        units.hold_notes(notes, PARTIALS[index % len(PARTIALS)])
        units.hold_latents()
        units.hold_places()


@dataclass(frozen=True)
class Layout:
    """Which channels of a token stand for what; audio frames in a latent; latents in the window."""

    latents: slice
    places: slice
    slow: slice
    told: slice
    beats: slice
    ended: slice
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
    texts, ends = examples.texts, examples.ends
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
    reading = _fitted(torch.cat([last, torch.ones(len(last), 1)], dim=1), examples.numbers)[:-1]
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
    told = last @ reading
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


@dataclass(frozen=True)
class Held:
    """What two units hold: a note counted from the lowest, which of its partials, on which side, its turns in all places."""

    note: int
    slot: int
    side: int
    wave: int


def _held(partials: tuple[tuple[float, int], ...], repeat: int) -> list[Held]:
    """What the units for notes hold, in order. A wave that is the same at every place has no phases, and no units."""
    held = []
    for note in range(HIGHEST_NOTE - LOWEST_NOTE + 1):
        for slot, (partial, side) in enumerate(partials):
            turns = round(tuned(partial * tuned(hertz(LOWEST_NOTE + note))) * REPEAT / SAMPLE_RATE) % repeat
            wave = min(turns, repeat - turns)
            if wave not in (0, repeat // 2):
                held.append(Held(note, slot, side, wave))
    return held


def shared_between_neighbours(dit: DiffusionTransformer, frames: int) -> None:
    """From now on let what opens the units of a note, or of a tempo, learn from those around it, and keep what notes hold.

    The units of one note have their own gates, and a kind that training never has at this note would never open them rightly.
    What a kind does is nearly the same from note to note. Gradients are blurred along the notes, a symmetric and positive
    preconditioning: whatever is learned varies slowly from note to note.

    Args:
        dit: Hooks are set at its parameters.
        frames: Frames of audio in a latent.
    """
    for index, block in enumerate(cast(Any, dit.transformer.layers)):
        first = block.ff.ff[0].proj
        if index == 0:
            tempos = range(HIGHEST_TEMPO - LOWEST_TEMPO + 1)
            places = torch.tensor([[tempo, unit] for tempo in tempos for unit in range(BEATS)], dtype=torch.float32)
            frozen = 0
        else:
            units = _held(PARTIALS[index % len(PARTIALS)], REPEAT // frames)
            places = torch.tensor([[held.note, held.slot] for held in units for _ in range(2)], dtype=torch.float32)
            frozen = len(places)
        near = (-0.5 * ((places[:, None, 0] - places[None, :, 0]) / NEIGHBOURS).square()).exp()
        blur = near * (places[:, None, 1] == places[None, :, 1])
        blur = blur / blur.sum(1).max()
        for parameter in (first.weight, first.bias):
            parameter.register_hook(functools.partial(_blurred, blur, frozen))


def _blurred(blur: Tensor, frozen: int, gradient: Tensor) -> Tensor:
    """Of a gated layer's first Linear: the gates' first rows blurred, the values' first `frozen` rows 0."""
    values, gates = gradient.clone().chunk(2)
    values[:frozen] = 0
    gates[: len(blur)] = blur.to(gates.device) @ gates[: len(blur)]
    return torch.cat([values, gates])


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
        size = open_.amax(1)[open_.amax(1) > 0.5 * OPEN].mean()
        for index, (weights, bias) in enumerate(zip(*keys, strict=True)):
            turns = seconds * (LOWEST_TEMPO + index) / 60
            angles = 2 * math.pi * torch.stack([turns / 4, turns])
            phases = torch.stack([angles.cos(), angles.sin()], dim=1).flatten(0, 1).T
            units = self._take(phases.shape[1])
            self._values[units, self._layout.places] = _fitted(waves, phases).T
            self._gates[units] = 0.0
            self._gates[units, self._layout.told] = weights
            self._gate_biases[units] = bias
            self._out.weight[self._layout.beats, units] = torch.eye(BEATS) * (math.sqrt(2) / size)

    def find_end(self) -> None:
        """Units that say whether a place is after the end of the clip: half of them rise from there on, half end the rise."""
        units = self._take(AFTER)
        self._value_biases[units] = 1.0
        self._gates[units] = 0.0
        self._gates[units, self._layout.slow.start], self._gates[units, self._layout.told.stop - 1] = 80.0, -80.0
        nn.init.normal_(self._gate_biases[units])
        half, rise = AFTER // 2, 8.0
        self._gate_biases[units.start + half : units.stop] = self._gate_biases[units.start : units.start + half] - rise
        self._out.weight[self._layout.ended, units] = LOUD / (half * rise)
        self._out.weight[self._layout.ended, units.start + half : units.stop] *= -1

    def hold_notes(self, keys: tuple[Tensor, Tensor], partials: tuple[tuple[float, int], ...]) -> None:
        """Units for every note, for the two phases of each partial on its side."""
        half = REPEAT // self._layout.frames // 2
        for held in _held(partials, 2 * half):
            units = self._take(2)
            first = self._layout.places.start + held.wave - 1
            self._values[units, first], self._values[units.start + 1, first] = torch.tensor([1.0, 0.0]), 0.0
            self._values[units.start + 1, first + half - 1] = 1.0
            self._gates[units, self._layout.slow] *= 0.2
            self._gates[units, self._layout.told] = keys[0][held.note]
            self._gate_biases[units] = keys[1][held.note]
            if held.side != BOTH:
                other = RIGHT if held.side == LEFT else LEFT
                self._gates[units, self._layout.told.start + other] -= 0.75 * OPEN
            self._close_after_end(units)

    def _close_after_end(self, units: slice) -> None:
        self._gates[units, self._layout.ended] = -4 * OPEN / (ENDED * LOUD)

    def hold_latents(self) -> None:
        """A unit for each latent."""
        units = self._take(self._layout.latents.stop)
        self._values[units, self._layout.latents] = torch.eye(self._layout.latents.stop)

    def hold_places(self) -> None:
        """All units that are left."""
        units = slice(self._next, len(self._values))
        places = self._layout.places
        nn.init.normal_(self._values[units, places], std=(places.stop - places.start) ** -0.5)
        nn.init.normal_(self._values[units, self._layout.beats], std=0.5)
        nn.init.normal_(self._gates[units, self._layout.beats], std=1.5)
        nn.init.normal_(self._value_biases[units], std=0.3)
        nn.init.normal_(self._gate_biases[units], std=1.0)
        self._close_after_end(units)
