from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import pytest

from sao_onnx.bundle.schema import SchemaError, read


@dataclass(frozen=True)
class Circle:
    type: Literal["circle"]
    radius: float


@dataclass(frozen=True)
class Square:
    type: Literal["square"]
    side: int


@dataclass(frozen=True)
class Drawing:
    name: str
    shapes: tuple[Circle | Square, ...]
    layers: dict[str, int]
    scale: Literal[1, 2]
    axis: tuple[int | str, ...] = ()
    note: str | None = None
    visible: bool = True
    extra: Any = None


GOOD = {"name": "a", "shapes": [{"type": "circle", "radius": 2}, {"type": "square", "side": 3}], "layers": {"x": 1}, "scale": 2}


def test_reads_nested_objects():
    drawing = read(Drawing, GOOD | {"axis": ["batch", 64], "extra": {"free": [1, "form"]}})
    assert drawing.shapes == (Circle("circle", 2.0), Square("square", 3))
    assert drawing.layers == {"x": 1}
    assert drawing.axis == ("batch", 64)
    assert drawing.note is None
    assert drawing.extra == {"free": [1, "form"]}


@pytest.mark.parametrize(
    ("change", "field", "problem"),
    [
        ({"colour": "red"}, "colour", "unknown field"),
        ({"name": 3}, "name", "found 3, expected a string"),
        ({"scale": 3}, "scale", "expected one of 1, 2"),
        ({"scale": True}, "scale", "found True"),
        ({"layers": {"x": "1"}}, "layers.x", "expected a whole number"),
        ({"layers": {"x": True}}, "layers.x", "expected a whole number"),
        ({"layers": []}, "layers", "expected an object"),
        ({"shapes": {}}, "shapes", "expected a list"),
        ({"shapes": [{"type": "star"}]}, "shapes[0].type", "supported: 'circle', 'square'"),
        ({"shapes": [{"radius": 1}]}, "shapes[0].type", "found None"),
        ({"shapes": [{"type": "circle", "radius": float("nan")}]}, "shapes[0].radius", "expected a finite number"),
        ({"shapes": [{"type": "circle"}]}, "shapes[0].radius", "missing"),
        ({"shapes": [7]}, "shapes[0]", "found 7"),
        ({"visible": 1}, "visible", "expected true or false"),
        ({"note": 1}, "note", "expected a string"),
        ({"axis": [None]}, "axis[0]", "a whole number or a string"),
    ],
)
def test_refuses_and_names_the_field(change, field, problem):
    with pytest.raises(SchemaError) as caught:
        read(Drawing, GOOD | change)
    assert caught.value.field == field
    assert problem in caught.value.problem


def test_refuses_what_is_no_object():
    with pytest.raises(SchemaError, match="expected an object"):
        read(Drawing, [1])


def test_long_values_are_cut_in_errors():
    with pytest.raises(SchemaError) as caught:
        read(Drawing, GOOD | {"name": ["x" * 1000]})
    assert len(str(caught.value)) < 200
