"""Options as people write them, on the command line and in the lines of a batch, to those of `Engine.generate`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sao_onnx.request import Options


def to_options(words: Mapping[str, Any]) -> Options:
    """Options by the names that the command line gives them.

    Args:
        words: Values as numbers or as text; None and empty text count as not given.

    Raises:
        RequestError: A name is unknown, a value is not of its kind, or two of them do not fit together.
    """
    from sao_onnx.errors import RequestError
    from sao_onnx.request import known_options

    options: dict[str, Any] = {}
    given = {name: value for name, value in words.items() if value is not None and value != ""}
    for name, value in given.items():
        if name not in WORDS:
            raise RequestError(f"{name!r} is no option; known: {', '.join(WORDS)}")
        try:
            options |= WORDS[name](value)
        except (ValueError, TypeError) as error:
            raise RequestError(f"{name} is {value!r}: {error}" if str(error) else f"{name} is {value!r}") from error
    if "strength" in given and "init" not in given:
        raise RequestError("strength needs init, the audio to start from")
    return known_options(options)


def _parsed(option: str, parse: Callable[[Any], Any], expected: str) -> Callable[[Any], dict[str, Any]]:
    def read(value: Any) -> dict[str, Any]:
        try:
            return {option: parse(value)}
        except (TypeError, ValueError):
            raise ValueError(f"expected {expected}") from None

    return read


def _number(option: str) -> Callable[[Any], dict[str, Any]]:
    return _parsed(option, float, "a number")


def _whole(option: str) -> Callable[[Any], dict[str, Any]]:
    # What is a number already is checked with the request, which does not cut 2.5 down to 2.
    return _parsed(option, lambda value: int(value) if isinstance(value, str) else value, "a whole number")


def _text(option: str) -> Callable[[Any], dict[str, Any]]:
    return lambda value: {option: str(value)}


def _strength(value: Any) -> dict[str, Any]:
    from sao_onnx.sampling.schedules import noise_level

    return {"init_noise_level": noise_level(_number("strength")(value)["strength"])}


def _fade(value: Any) -> dict[str, Any]:
    parts = str(value).split(":")
    try:
        seconds = [float(part) for part in parts]
    except ValueError:
        seconds = []
    if len(seconds) not in (1, 2):
        raise ValueError("expected seconds, such as 0.5, or IN:OUT, such as 0.01:0.5")
    return {"fade_in": seconds[0], "fade_out": seconds[-1]}


def _regions(option: str) -> Callable[[Any], dict[str, Any]]:
    def read(value: Any) -> dict[str, Any]:
        parts = value.replace(",", " ").split() if isinstance(value, str) else list(value)
        try:
            regions = [tuple(float(edge) for edge in str(part).split(":")) for part in parts]
        except ValueError:
            regions = [()]
        if not all(len(region) == 2 for region in regions):
            raise ValueError("expected FROM:TO in seconds, such as 3:8.5")
        return {option: regions} if regions else {}

    return read


def _trim(value: Any) -> dict[str, Any]:
    if value != "silence":
        raise ValueError("known: silence")
    return {"trim_silence": True}


def _mono(value: Any) -> dict[str, Any]:
    truth = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}.get(str(value).lower())
    if truth is None:
        raise ValueError("expected true or false")
    return {"mono": truth}


WORDS: dict[str, Callable[[Any], dict[str, Any]]] = {
    "seconds": _number("seconds"),
    "steps": _whole("steps"),
    "seed": _whole("seed"),
    "sampler": _text("sampler"),
    "cfg": _number("cfg_scale"),
    "negative": _text("negative_prompt"),
    "init": _text("init_audio"),
    "init-start": _number("init_start"),
    "strength": _strength,
    "keep": _regions("keep"),
    "regenerate": _regions("regenerate"),
    "extend": _number("extend"),
    "window": _number("window_seconds"),
    "bpm": _number("bpm"),
    "bars": _whole("bars"),
    "beats": _whole("beats"),
    "normalize": _text("normalize"),
    "loudness": _number("loudness"),
    "fade": _fade,
    "trim": _trim,
    "mono": _mono,
}
