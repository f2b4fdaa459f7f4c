"""Finds the three parts of a model in a checkpoint, whatever was put in front of the names of their tensors.

A model is saved alone (`model.model.…`), by the program that trained it (`diffusion.model.model.…`, with an average of the
transformer's weights under `diffusion_ema.ema_model.…`), from several processes (`module.…`), or compiled (`_orig_mod.…`); or
only one of its parts is saved. A part is recognised by the names of its own tensors, and what is before them is its prefix.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from sao_onnx_convert.source.layouts import alternatives

PARTS = {
    "transformer": "model.model.",
    "conditioners": "conditioner.conditioners.",
    "autoencoder": "pretransform.model.",
}
"""The parts of a model, and how the names of their tensors begin in one that was saved alone."""

_WRAPPERS = re.compile(r"(?:^|(?<=\.))(?:module|_orig_mod|_forward_module|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
"""What training in several processes and compiling put between the parts of a name."""

_TRAINING = re.compile(r"(^|\.)(discriminator\w*|losses|teacher_model|clap_model|optimizer_states|online_model)\.")
"""Networks and states that only training needs, in the order of the reference's wrappers."""

_AVERAGED = re.compile(r"(^|\.)(\w*_ema|ema_model|ema)\.")
"""Averages of weights. `diffusion_ema` holds the transformer alone: conditioners and autoencoder are not averaged."""


class AmbiguousError(ValueError):
    """A checkpoint holds several of a part and none comes first, or not the wanted one. The message ends a sentence."""


@dataclass(frozen=True)
class Found:
    """What a checkpoint holds of a model.

    Attributes:
        places: By the names of the model: the names in the checkpoint. Names that belong to no part are there as well.
        prefixes: By part: what is before the names of its tensors. Parts that are not there are left out.
        averaged: Parts whose averaged weights were taken.
    """

    places: Mapping[str, str]
    prefixes: Mapping[str, str]
    averaged: frozenset[str]


def find_parts(expected: Collection[str], stored: Collection[str], average: bool) -> Found:
    """Find a model's tensors in a checkpoint.

    Args:
        expected: Names of the model's tensors.
        stored: Names of the checkpoint's tensors.
        average: Take averaged weights (EMA) where there are some; otherwise those without.

    Raises:
        AmbiguousError: There are several of a part, or none of the wanted kind.
    """
    known = set(expected)
    names = {name: name if name in known else _WRAPPERS.sub("", name) for name in stored}
    towers = _towers(expected, names)
    places: dict[str, str] = {}
    prefixes: dict[str, str] = {}
    averaged = set()
    for part, start in PARTS.items():
        if (prefix := _choose(part, towers[part], average)) is None:
            continue
        prefixes[part] = prefix
        places |= {start + rest: name for rest, name in towers[part][prefix].items()}
        if _AVERAGED.search(prefix):
            averaged.add(part)
    used = {name for part in towers.values() for tower in part.values() for name in tower.values()}
    for clean, name in _rest({name: clean for name, clean in names.items() if name not in used}, prefixes).items():
        places[name if clean in places else clean] = name
    return Found(places, prefixes, frozenset(averaged))


def _towers(expected: Collection[str], names: Mapping[str, str]) -> dict[str, dict[str, dict[str, str]]]:
    """By part and prefix: the tensors of the part that have this prefix, from their names without it to those in the file."""
    accepted = {
        part: {other.removeprefix(start) for name in expected if name.startswith(start) for other in alternatives(name)}
        for part, start in PARTS.items()
    }
    towers: dict[str, dict[str, dict[str, str]]] = {part: {} for part in PARTS}
    for name, clean in names.items():
        ends = [0, *(match.end() for match in re.finditer(r"\.", clean))]
        for part, wanted in accepted.items():
            if (end := next((end for end in ends if clean[end:] in wanted), None)) is not None:
                tower = towers[part].setdefault(clean[:end], {})
                if tower.setdefault(clean[end:], name) == name:
                    break
    return towers


def _choose(part: str, towers: Mapping[str, Mapping[str, str]], average: bool) -> str | None:
    """The prefix of the tensors to take; None where there are none."""
    usable = [prefix for prefix in towers if not _TRAINING.search(prefix)]
    means = _fullest([prefix for prefix in usable if _AVERAGED.search(prefix)], towers, part)
    plain = _fullest([prefix for prefix in usable if not _AVERAGED.search(prefix)], towers, part)
    if means is None or (plain is not None and not average):
        return plain
    if not average:
        raise AmbiguousError(f"it holds the {part} as averaged weights (EMA) alone; leave out --no-ema (ema=True) to take them")
    if plain is not None and (lost := towers[plain].keys() - towers[means].keys()):
        raise AmbiguousError(
            f"its averaged weights (EMA) of the {part} are incomplete: {len(lost)} of {len(towers[plain])} tensors are "
            f"missing, such as {min(lost)}; take those that were not averaged with --no-ema (ema=False)"
        )
    return means


def _fullest(prefixes: list[str], towers: Mapping[str, Mapping[str, str]], part: str) -> str | None:
    """The prefix with the most tensors, the usual ones first."""
    usual = (PARTS[part], f"diffusion.{PARTS[part]}")
    ranked = sorted(prefixes, key=lambda prefix: (-len(towers[prefix]), prefix not in usual, prefix))
    if len(ranked) > 1 and len(towers[ranked[0]]) == len(towers[ranked[1]]) and ranked[0] not in usual:
        raise AmbiguousError(
            f"it holds several of the {part}, under {' and '.join(repr(prefix) for prefix in ranked[:4])}; save the state_dict "
            "of one model alone"
        )
    return ranked[0] if ranked else None


def _rest(names: Mapping[str, str], prefixes: Mapping[str, str]) -> dict[str, str]:
    """Tensors of no part that are among those of the model, by the names that they would have in it.

    What only training needs is left out, and so is what stands beside a model that has something in front of its names.
    """
    starts = {prefix: PARTS[part] for part, prefix in prefixes.items() if not _AVERAGED.search(prefix)}
    # Before `model.model.` and the like, the prefix of the model.
    starts |= {prefix.removesuffix(start): "" for prefix, start in starts.items() if prefix.endswith(start)}
    found = {}
    for name, clean in names.items():
        if _TRAINING.search(clean) or _AVERAGED.search(clean):
            continue
        before = max((prefix for prefix in starts if clean.startswith(prefix)), key=len, default=None)
        if before is not None:
            found[starts[before] + clean.removeprefix(before)] = name
        elif not prefixes:
            found[clean] = name
    return found
