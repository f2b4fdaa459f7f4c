"""Chooses the configuration of an audio model from the files in its folder or repository, by their names."""

from __future__ import annotations

import re
from pathlib import Path

from sao_onnx_convert.errors import CheckpointError
from sao_onnx_convert.source.file_names import CONFIG, INDEX, PICKLES
from sao_onnx_convert.source.source import Source

_CONFIG = re.compile(r"(?:.*[._-])?config\.json")
_KINDS = re.compile(r"(?:(?:^|[._-])base)?(?:^|[._-])model$")
"""What stands between the name of a model and `config.json`."""


def choose_config(source: Source, given: str | None, weights: list[str]) -> str | None:
    """The path of an audio model's configuration in its source; None where there is none.

    Fine-tunes keep it under other names, and several models may be in one folder. It is the one that the user named; the one
    whose name begins as that of the weights (`acid_v1_base_model_config.json` for `acid_v1_saos_e21.ckpt`,
    `base_model_config.json` for `base_model.ckpt`); `model_config.json`; or the only one.

    Args:
        source: Where it is.
        given: Its name in the source's folder; None if the user did not name it.
        weights: Files that may be the weights. If there are several, they must be chosen from first.

    Raises:
        CheckpointError: There are several, and none fits the weights better than the others.
    """
    named = (source.file or "").removeprefix(source.base)
    if given is None and named.endswith(".json") and not named.endswith(INDEX):
        given = named
    if given is not None:
        return source.base + given if source.base + given in source.names else None
    there = [name for name in source.beside if _CONFIG.fullmatch(name)]
    if len(weights) == 1 and (found := _best(there, weights[0], source)) is not None:
        return source.base + found
    if CONFIG in there or not source.complete:
        return source.base + CONFIG if CONFIG in there else None
    models = [name for name in there if _KINDS.search(_stem(name))]
    of_none = [name for name in models if not _owner(name)]
    fitting = of_none if len(of_none) == 1 else models
    if len(fitting) > 1 and len(weights) == 1:
        raise _several(source, fitting)
    return source.base + fitting[0] if len(fitting) == 1 else None


def lent_config(lender: Source, weights: list[str]) -> str | None:
    """The path of the configuration that a base lends to a model that has none; None where it has none either.

    Several in the base are those of several models, with other objectives, and nothing says which of them was trained further.

    Raises:
        CheckpointError: There are several, and the user has not named the weights.
    """
    models = [name for name in lender.beside if _KINDS.search(_stem(name)) and name.endswith("config.json")]
    if len(models) > 1 and lender.file is None:
        raise CheckpointError(
            f"the model has no configuration, and {lender.title} holds several: {', '.join(sorted(models)[:20])}; give one "
            "with --config FILE (config_name=...), or the file of the weights that it was made from with --base"
        )
    return choose_config(lender, None, weights)


def local_config(source: Source, given: str | None) -> Path | None:
    """The configuration that the user named by its path on this machine; None if it is one in the source, or nothing."""
    if given is None or source.base + given in source.names:
        return None
    path = Path(given).expanduser()
    return path if path.is_file() else None


def _best(configs: list[str], weights: str, source: Source) -> str | None:
    """The configuration whose name agrees with that of the weights as far as possible; None where none does."""
    stem = weights.removesuffix(".safetensors")
    for end in PICKLES:
        stem = stem.removesuffix(end)

    def agreement(name: str) -> int:
        if _stem(name) == stem and name != CONFIG:
            return len(stem)
        owner = _owner(name)
        return len(owner) if owner and re.match(rf"{re.escape(owner)}($|[._-])", stem) else 0

    most = max(map(agreement, configs), default=0)
    found = [name for name in configs if most and agreement(name) == most]
    if len(found) > 1:
        raise _several(source, found)
    return found[0] if found else None


def _stem(name: str) -> str:
    return name.removesuffix("config.json").rstrip("._-")


def _owner(name: str) -> str:
    """The model that a configuration belongs to by its name; empty where it names none."""
    return _KINDS.sub("", _stem(name))


def _several(source: Source, names: list[str]) -> CheckpointError:
    return CheckpointError(
        f"{source.title} holds several configurations: {', '.join(sorted(names)[:20])}; say which with --config NAME "
        "(config_name=...)"
    )
