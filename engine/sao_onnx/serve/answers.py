"""Answers: audio with ranges, clips with their recipe, errors."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response

from sao_onnx.clip import Clip
from sao_onnx.errors import AudioFileError, NotEnoughMemoryError, RequestError, SaoOnnxError
from sao_onnx.option import shown
from sao_onnx.serve.formats import BITS, MEDIA_TYPES, accepted, known
from sao_onnx.serve.refusals import EndingError, QueueFullError
from sao_onnx.serve.service import ClientGoneError, JobFailedError
from sao_onnx.suggest import one_of

_STATUSES: dict[type[Exception], int] = {
    QueueFullError: 429,
    RequestError: 422,
    AudioFileError: 422,
    NotEnoughMemoryError: 503,
    EndingError: 503,
    SaoOnnxError: 500,
    ClientGoneError: 499,
}
"""The first class that an error is of decides."""

INTERNAL = "InternalError"

LONGEST_HEADER = 4_000
"""Bytes of a recipe that is still sent in a header; the file has it in its tags, and the job in its JSON."""


def wanted_format(http: HttpRequest) -> str:
    """The format that the query names, or that `Accept` prefers.

    Raises:
        RequestError: The query names one that is unknown.
    """
    named = http.query_params.get("format")
    return known(named) if named else accepted(http.headers.get("accept", ""))


def wanted_bits(http: HttpRequest, format: str) -> int | None:
    """Bits of a sample that the query names; None for those of the format.

    Raises:
        RequestError: The query names others than the format can have.
    """
    named = http.query_params.get("bits")
    if not named:
        return None
    offered = BITS.get(format, ())
    if named not in map(str, offered):
        expected = one_of(named, [str(bits) for bits in offered]) if offered else "none: the format is compressed"
        raise RequestError(f"bits is {shown(named)} for {format}, expected {expected}")
    return int(named)


async def audio(clip: Clip, format: str, http: HttpRequest, model: str, bits: int | None = None) -> Response:
    """A clip as a file, or the part of it that the client asks for. Headers say how to have it again, of which model here."""
    data = await run_in_threadpool(lambda: clip.encoded(f".{format}", bits=bits))
    # In letters that a header may have.
    recipe = json.dumps(json.loads(clip.provenance.to_json()))
    headers = {
        "X-Sao-Seed": str(clip.seed),
        "X-Sao-Model": model,
        "Cache-Control": "no-store",
        "Content-Disposition": f'inline; filename="sao-{clip.seed}.{format}"',
    }
    if len(recipe) <= LONGEST_HEADER:
        headers["X-Sao-Recipe"] = recipe
    # We give no ETag, so a condition on one never holds, and all is sent.
    wanted = "" if "if-range" in http.headers else http.headers.get("range", "")
    return ranged(data, MEDIA_TYPES[format], wanted, headers)


def ranged(data: bytes, media_type: str, range: str, headers: Mapping[str, str]) -> Response:
    """Bytes, or the one range of them that is asked for; several ranges are answered with all."""
    headers = {**headers, "Accept-Ranges": "bytes"}
    match = re.fullmatch(r"bytes=(\d{0,18})-(\d{0,18})", range.strip())
    if match is None or not (match[1] or match[2]):
        return Response(data, media_type=media_type, headers=headers)
    if match[1]:
        start, end = int(match[1]), min(int(match[2]) if match[2] else len(data) - 1, len(data) - 1)
    else:
        start, end = max(0, len(data) - int(match[2])), len(data) - 1
    if start > end:
        return Response(status_code=416, headers=headers | {"Content-Range": f"bytes */{len(data)}"})
    part = headers | {"Content-Range": f"bytes {start}-{end}/{len(data)}"}
    return Response(data[start : end + 1], 206, media_type=media_type, headers=part)


def status_of(error: Exception) -> tuple[int, str, str]:
    """The HTTP status of an error, its type and its message for a client."""
    if isinstance(error, JobFailedError):
        return 500, error.type, str(error)
    for kind, status in _STATUSES.items():
        if isinstance(error, kind):
            return status, type(error).__name__, str(error)
    return 500, INTERNAL, "the server failed; its log says how"


def headers_of(error: Exception) -> dict[str, str]:
    """Headers of an error's answer."""
    return {"Retry-After": str(error.retry_after)} if isinstance(error, QueueFullError) else {}


async def failed(http: HttpRequest, error: Exception) -> Response:
    """An error in our own shape."""
    status, kind, message = status_of(error)
    return json_error(status, kind, message, headers_of(error))


def json_error(status: int, kind: str, message: str, headers: Mapping[str, str] | None = None) -> Response:
    """An error in our own shape."""
    return JSONResponse({"error": {"type": kind, "message": message}}, status, dict(headers or {}))


def server_sent(event: str, data: Any, id: int) -> bytes:
    """A server-sent event."""
    return f"event: {event}\nid: {id}\ndata: {json.dumps(data)}\n\n".encode()
