"""What the number conditioners of a model are told."""

from __future__ import annotations

from sao_onnx.bundle.manifest import DURATION, TEMPO, Manifest, Number
from sao_onnx.errors import RequestError
from sao_onnx.option import shown
from sao_onnx.planning.loops import named_tempo
from sao_onnx.request import Request


def numbers(manifest: Manifest, request: Request, seconds: float) -> dict[str, float]:
    """The value of every number conditioner.

    Args:
        manifest: Of the model.
        request: What it says itself comes first.
        seconds: How long the sound shall be, which the model clamps to its range.

    Raises:
        RequestError: The model has no conditioner of a name, or a value is outside its range.
    """
    known = {number.id: number for number in manifest.conditioning.numbers}
    given = request.numbers or {}
    for name, value in given.items():
        if name not in known:
            ranges = ", ".join(number.range for number in known.values())
            raise RequestError(f"the model has no number conditioner {shown(name)}; it has {ranges}")
        _require(name, value, known[name])
    return {id: given[id] if id in given else _unsaid(number, request, seconds) for id, number in known.items()}


def knows_tempo(manifest: Manifest, request: Request) -> bool:
    """Whether `bpm` is for a number conditioner alone, and makes no loop."""
    alone = request.bpm is not None and request.bars is None and request.beats is None
    return alone and any(number.id == TEMPO for number in manifest.conditioning.numbers)


def _unsaid(number: Number, request: Request, seconds: float) -> float:
    """The value of a number that `numbers` does not name."""
    if number.id == DURATION:
        return seconds
    if number.id == TEMPO:
        if request.bpm is not None:
            _require(TEMPO, request.bpm, number, "; numbers can tell it another tempo than that of the loop")
            return request.bpm
        if (tempo := named_tempo(request.prompt)) is not None:
            return min(max(tempo, number.minimum), number.maximum)
    return number.default


def _require(name: str, value: float, number: Number, remedy: str = "") -> None:
    if not number.minimum <= value <= number.maximum:
        expected = f"{number.minimum:g} to {number.maximum:g}, which is what the model knows"
        raise RequestError(f"{name} is {shown(value)}, expected {expected}{remedy}")
