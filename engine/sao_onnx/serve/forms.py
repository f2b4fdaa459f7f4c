"""Forms: their parts, under the server's limits."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from python_multipart.exceptions import FormParserError
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request as HttpRequest

from sao_onnx.arrays import Array
from sao_onnx.errors import RequestError
from sao_onnx.serve.bodies import decoded
from sao_onnx.serve.settings import Limits

MOST_FIELDS = 50
"""Parts of a form beside its files. Clients of others send fields that we do not know."""


@contextlib.asynccontextmanager
async def parts(http: HttpRequest, limits: Limits, *, files: int = 1) -> AsyncGenerator[FormData, None]:
    """The parts of a form, while it is open; none where the body is no form.

    Args:
        http: The request.
        limits: Of the server.
        files: Most parts that are files.

    Raises:
        RequestError: The form is broken, or has too many or too large parts.
    """
    try:
        form = await http.form(max_files=files, max_fields=MOST_FIELDS, max_part_size=limits.json)
    except (HTTPException, FormParserError) as error:  # The second one from older releases of Starlette.
        raise RequestError(f"the form cannot be read: {getattr(error, 'detail', error)}") from error
    try:
        yield form
    finally:
        await form.close()


async def recording(form: Mapping[str, Any], name: str, limits: Limits, *, required: bool = False) -> tuple[Array, int] | None:
    """Audio in a form; None where there is none.

    Raises:
        RequestError: It is missing, or no file.
        AudioFileError: It cannot be read.
    """
    sent = form.get(name)
    if isinstance(sent, UploadFile):
        data = await sent.read()
        return await run_in_threadpool(decoded, data, limits)
    if sent is not None or required:
        raise RequestError(f"{name} is {'missing' if sent is None else 'text'}, expected a file with audio")
    return None


async def written(form: FormData, name: str, limits: Limits) -> str | bytes:
    """JSON in a form: text, or a file, as some clients send every part that has a type.

    Raises:
        RequestError: It is missing, or too large.
    """
    sent = form.get(name)
    if sent is None:
        raise RequestError(f'the part "{name}" of the form is missing; it holds the request as JSON')
    if isinstance(sent, str):
        return sent
    data = await sent.read(limits.json + 1)
    if len(data) > limits.json:
        raise RequestError(f'the part "{name}" of the form is larger than {limits.json} bytes')
    return data


def only(form: FormData, names: tuple[str, ...]) -> None:
    """Refuse parts with other names, and more than one of a name.

    Raises:
        RequestError: There is such a part.
    """
    found = [name for name, _ in form.multi_items()]
    for name in found:
        if name not in names:
            raise RequestError(f"the form has a part {name[:100]!r}, expected {' and '.join(names)}")
        if found.count(name) > 1:
            raise RequestError(f"the form has {found.count(name)} parts {name!r}, expected one")
