"""What the adapters share."""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from sao_onnx.errors import RequestError
from sao_onnx.option import shown
from sao_onnx.request import MAX_SEED, random_seed
from sao_onnx.serve.answers import INTERNAL, headers_of, status_of
from sao_onnx.serve.guard import TooLargeError

Endpoint = Callable[[HttpRequest], Awaitable[Response]]
ErrorShape = Callable[[int, str, str, Mapping[str, str]], Response]
"""An error as the clients of an interface read it, from its status, type, message and headers."""


def answering(shape: ErrorShape, endpoint: Endpoint) -> Endpoint:
    """An endpoint whose errors have the shape of its interface."""

    async def guarded(http: HttpRequest) -> Response:
        try:
            return await endpoint(http)
        except TooLargeError:
            raise
        except Exception as error:
            status, kind, message = status_of(error)
            if kind == INTERNAL:
                raise  # The server logs it.
            return shape(status, kind, message, headers_of(error))

    return guarded


def number(fields: Mapping[str, Any], name: str, low: float, high: float) -> float | None:
    """A number of a JSON object or a form, None where it is not there.

    Raises:
        RequestError: It is no number, or outside the range.
    """
    value = fields.get(name)
    if value is None or value == "":
        return None
    try:
        found = float(value) if isinstance(value, (str, int, float)) and not isinstance(value, bool) else None
    except (ValueError, OverflowError):
        found = None
    if found is None or not low <= found <= high:
        raise RequestError(f"{name} is {shown(value)}, expected a number from {low:g} to {high:g}")
    return found


def whole(fields: Mapping[str, Any], name: str, low: int, high: int) -> int | None:
    """A whole number, as `number`."""
    found = number(fields, name, low, high)
    if found is None:
        return None
    if found != int(found):
        raise RequestError(f"{name} is {found:g}, expected a whole number")
    return int(found)


def text(fields: Mapping[str, Any], name: str, *, required: bool = False) -> str | None:
    """A text of a JSON object or a form, None where it is not there or empty.

    Raises:
        RequestError: It is no text, or missing.
    """
    value = fields.get(name)
    if isinstance(value, str) and value:
        return value
    if value is None or value == "":
        if required:
            raise RequestError(f"{name} is missing")
        return None
    raise RequestError(f"{name} is {shown(value)}, expected text")


def choice(fields: Mapping[str, Any], name: str, choices: tuple[str, ...], default: str) -> str:
    """One of several texts.

    Raises:
        RequestError: It is another one.
    """
    found = text(fields, name) or default
    if found not in choices:
        raise RequestError(f"{name} is {shown(found)}, expected {' or '.join(choices)}")
    return found


def seed(fields: Mapping[str, Any], random: int | None = None) -> int:
    """The seed of a request; a random one where there is none, or where the interface's own number for "random" is given."""
    found = whole(fields, "seed", min(0, random or 0), MAX_SEED)
    return random_seed() if found is None or found == random else found


def base64_of(data: bytes) -> str:
    """Bytes as text in JSON."""
    return base64.b64encode(data).decode()
