"""What the value of a setting means for its option: checked, and as a command gets it."""

from __future__ import annotations

from typing import Any

from sao_onnx.cli.declared import Declared
from sao_onnx.cli.settings_file import shown_as_toml
from sao_onnx.option import shown
from sao_onnx.request import kinds
from sao_onnx.suggest import one_of


def request_values(key: str, value: Any, *, from_json: bool) -> dict[str, Any]:
    """Options of a request, checked."""
    from sao_onnx.errors import RequestError
    from sao_onnx.written_options import read_options

    if value == "" or isinstance(value, list):
        raise RequestError(f"{key} is {shown(value)}, expected one value that is not empty")
    read = read_options({key: value}, from_json=from_json)
    return {name: kinds()[name].checked(name, found) for name, found in read.items()}


_EXPECTED = {
    "flag": "true or false, without quotes",
    "whole number": "a whole number, without quotes",
    "number": "a number, without quotes",
    "text": "text, in quotes",
    "path": "a path, in quotes",
}
_TOML = {"flag": (bool,), "whole number": (int,), "number": (int, float), "text": (str,), "path": (str,)}
"""What the file has for the types of options that are no request's."""


def own_value(option: Declared, key: str, value: Any, *, from_file: bool) -> Any:
    """A value of an option that is no request's, as typer would hand it to the command.

    Raises:
        RequestError: It is none.
    """
    from sao_onnx.places import folders_and_words

    if not option.several:
        return _one_value(option, key, value, from_file=from_file)
    several = value if isinstance(value, list) else [value] if from_file else folders_and_words(value)
    return [_one_value(option, key, one, from_file=from_file) for one in several]


def _one_value(option: Declared, key: str, value: Any, *, from_file: bool) -> Any:
    from sao_onnx.errors import RequestError
    from sao_onnx.option import text
    from sao_onnx.places import expand_home
    from sao_onnx.written import read

    wrong = not isinstance(value, _TOML[option.type]) or (isinstance(value, bool) and option.type != "flag")
    if from_file and value == "":
        raise RequestError(f"{key} is empty; leave the line out, or give it a value")
    if from_file and wrong:
        raise RequestError(f"{key} is {shown_as_toml(value)}, expected {_EXPECTED[option.type]}")
    try:
        found = read(option.type, value)
    except ValueError as error:
        raise RequestError(f"{key} is {shown(value)}; {error}") from None
    if option.type in ("number", "whole number"):
        found = _in_range(option, key, found)
    elif option.type != "flag":
        text(key, found)
    if option.choices and str(found) not in option.choices:
        raise RequestError(f"{key} is {shown(found)}, expected {one_of(str(found), option.choices)}")
    return expand_home(found) if option.type == "path" else found


def _in_range(option: Declared, key: str, value: Any) -> float:
    from sao_onnx.errors import RequestError
    from sao_onnx.option import finite_number, whole_number

    number = whole_number(key, value) if option.type == "whole number" else finite_number(key, value)
    low, high = option.info.min, option.info.max
    if (low is not None and number < low) or (high is not None and number > high):
        raise RequestError(f"{key} is {shown(number)}, expected {option.range}")
    return number
