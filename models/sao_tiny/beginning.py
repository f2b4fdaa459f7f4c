"""The weights that training of the transformer begins with.

From random weights it learns what all sounds have in common, and then for long nothing: a held tone is nothing on average, and
no slope leads from there to the phase that this note has come to in this place. So the beginning lays out what is known:

- Latents stand in the first channels of a token, and go out as they came in: the velocity of pure noise in front of silence.
- The place of a token stands behind them, as waves: those that repeat every 64 latents, as held tones do, and slower ones.
- The prompt comes last, `TOLD` numbers of it, read from the end of its text, where the text encoder learned to say what is
  asked for; and the length of the clip.
- Feed-forward layers have units for every note, each of which holds a phase of a harmonic; units that hold a latent; and units
  that hold a place. What is told opens and closes them.

What becomes of all this is left to training: every unit begins without a say.
"""

from __future__ import annotations

import math
from typing import Any, cast

import torch
from torch import Tensor, nn

from models.sao_tiny.requests import HIGHEST_NOTE, LOWEST_NOTE
from models.sao_tiny.signals import REPEAT, SAMPLE_RATE, tuned
from models.sao_tiny.sounds import hertz
from sao_onnx_convert.networks.conditioners import NumberConditioner
from sao_onnx_convert.networks.dit import DiffusionTransformer

TOLD = 44
"""Channels of a token that stand for the prompt; the last of them for the length."""

SLOW = 20
"""Channels of a token that stand for slow waves of its place."""

HARMONICS = ((1, 2, 3), (1, 2, 4), (1, 3, 5), (1, 2, 6))
"""Harmonics of every note that the units of each block hold."""

AFTER = 8
"""Units that hold how long ago a clip ended."""


@torch.no_grad()
def begin(
    dit: DiffusionTransformer, length: NumberConditioner, texts: Tensor, ends: Tensor, facts: Tensor, notes: Tensor, frames: int
) -> None:
    """Give the transformer and the embedding of the length the weights that training starts from.

    Args:
        dit: Changed in place.
        length: Changed in place.
        texts: Embeddings of examples of prompts, zeros behind each, float32 [prompts, tokens, width].
        ends: Where their last token is, int64 [prompts].
        facts: What the text encoder says of each, as numbers, float32 [prompts, numbers], the notes first.
        notes: The notes that they ask for, counted from the lowest, -1 for none, int64 [prompts].
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
    table.copy_(_places(table, channels, frames))
    blocks = cast(Any, inside.layers)
    told = _tell(dit, length, texts, ends, facts, frames)
    keys = _keys(told, notes)
    for index, block in enumerate(blocks):
        _open(block.ff.ff[0].proj, HARMONICS[index % len(HARMONICS)], keys, channels, frames)


def _places(table: Tensor, channels: int, frames: int) -> Tensor:
    """The embedding of places: waves as large as a latent. The first token is no latent, and has none."""
    length, width = table.shape
    place = torch.arange(length - 1).double()
    repeat = REPEAT // frames
    angles = 2 * math.pi * place[:, None] * torch.arange(1, repeat // 2) / repeat
    waves = [angles.cos() * math.sqrt(2), angles.sin() * math.sqrt(2), torch.cos(math.pi * place)[:, None]]
    waves.append(((2 * place / (length - 2) - 1) * math.sqrt(3))[:, None])
    # Those slow waves that are not among the ones above, for they come to the end of the window as often as 64 latents do.
    slow = [k for k in range(1, 4 * SLOW) if k * repeat % (length - 1)][: SLOW // 2]
    angles = 2 * math.pi * place[:, None] * torch.tensor(slow) / (length - 1)
    waves += [angles.cos() * math.sqrt(2), angles.sin() * math.sqrt(2)]
    values = torch.cat(waves, dim=1)
    found = torch.zeros_like(table)
    # The embedding is divided by the root of the width.
    found[1:, channels : channels + values.shape[1]] = math.sqrt(width) * values
    return found


def _tell(
    dit: DiffusionTransformer, length: NumberConditioner, texts: Tensor, ends: Tensor, facts: Tensor, frames: int
) -> Tensor:
    """Let cross-attention read the end of the text and the length. Returns what is told of the prompts, [prompts, TOLD]."""
    first, _, second = cast(Any, dit.to_cond_embed)
    # Through SiLU nearly as it came.
    nn.init.eye_(first.weight).mul_(0.4)
    nn.init.eye_(second.weight).mul_(5.0)
    real = texts.abs().sum(-1) > 0
    context = dit.to_cond_embed(texts)
    tokens, last = context[real], context[torch.arange(len(ends)), ends]
    # The direction in which all tokens of a text lie, and against it the length's.
    ahead = _fitted(tokens, torch.ones(len(tokens), 1))[:, 0]
    linear = cast(Any, length.embedder.embedding)[1]
    nn.init.normal_(linear.weight, std=0.02)
    nn.init.normal_(linear.weight[:, 0], std=2.0)
    linear.bias.copy_(-8 * ahead[: len(linear.bias)] / ahead.norm())
    window = (dit.transformer.pos_emb.emb.num_embeddings - 1) * frames / SAMPLE_RATE  # type: ignore[union-attr]
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
    line = _fitted(lengths, (2 * seconds[:, None] / window - 1) * math.sqrt(3))[:, 0]

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
    out[-TOLD:-1, : TOLD - 1] = torch.eye(TOLD - 1)
    out[-1, -size] = 1.0
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


def _keys(told: Tensor, notes: Tensor) -> tuple[Tensor, Tensor]:
    """What opens the units of each note: weights of what is told [notes, TOLD], and biases [notes]."""
    count = HIGHEST_NOTE - LOWEST_NOTE + 1
    rows = torch.cat([told, torch.ones(len(told), 1)], dim=1)
    found = torch.stack([_separating(rows[notes == note], rows[notes != note]) for note in range(count)])
    # Open by 4 on average.
    found *= torch.stack([4 / (rows[notes == note] @ found[note]).mean() for note in range(count)])[:, None]
    return found[:, :-1], found[:, -1]


def _open(layer: nn.Linear, harmonics: tuple[int, ...], keys: tuple[Tensor, Tensor], channels: int, frames: int) -> None:
    """Give the units of a feed-forward layer what they hold, and what opens them."""
    width = layer.in_features
    values, gates = layer.weight.chunk(2)
    value_bias, gate_bias = layer.bias.chunk(2)
    values.zero_()
    value_bias.zero_()
    gate_bias.zero_()
    places, told = slice(channels, width - TOLD), slice(width - TOLD, width)
    # By what is told and when.
    gates.zero_()
    ramp = width - TOLD - SLOW - 1
    nn.init.normal_(gates[:, ramp : width - TOLD], std=0.25)
    nn.init.normal_(gates[:, told], std=1.5 * TOLD**-0.5)
    repeat, weights = REPEAT // frames, keys[0]
    unit = 0
    for note in range(len(weights)):
        for harmonic in harmonics:
            turns = round(harmonic * tuned(hertz(LOWEST_NOTE + note)) * REPEAT / SAMPLE_RATE) % repeat
            wave = min(turns, repeat - turns)
            if wave in (0, repeat // 2):
                continue
            for column in (channels + wave - 1, channels + repeat // 2 - 1 + wave - 1):
                values[unit, column] = 1.0
                gates[unit, places] *= 0.2
                gates[unit, told] = weights[note]
                gate_bias[unit] = keys[1][note]
                unit += 1
    # Two units for each latent.
    for column in list(range(channels)) * 2:
        values[unit, column] = 1.0
        unit += 1
    for _ in range(AFTER):
        value_bias[unit] = 1.0
        gates[unit] = 0.0
        gates[unit, ramp], gates[unit, -1] = 40.0, -40.0
        nn.init.normal_(gate_bias[unit : unit + 1], std=3.0)
        unit += 1
    nn.init.normal_(values[unit:, places], std=(width - TOLD - channels) ** -0.5)
    nn.init.normal_(value_bias[unit:], std=0.3)
