"""What `load` and the methods of an engine are given: settings, and requests in several forms."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, cast

from sao_onnx.errors import RequestError
from sao_onnx.option import shown, text, whole_number
from sao_onnx.request import Options, Request, with_present_names

P = ParamSpec("P")
T = TypeVar("T")

Asked = str | Request | tuple[str, Options]
"""A prompt, a request, or a prompt with its options."""


def takes_options(method: Callable[P, T]) -> Callable[P, T]:
    """Show the fields of `Request` as the keyword arguments of a method, in place of its `**options`."""
    signature = inspect.signature(method)
    parameters = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
    parameters += [
        inspect.Parameter(f.name, inspect.Parameter.KEYWORD_ONLY, default=f.default, annotation=f.type)
        for f in fields(Request)[1:]
    ]
    method.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return method


def as_request(prompt: str | Request, options: Mapping[str, Any]) -> Request:
    """A prompt or a request, with options over its own.

    Raises:
        RequestError: An option is unknown or outside its range.
    """
    if not isinstance(prompt, Request):
        return Request.from_options(prompt, options)
    return Request.from_options(prompt.prompt, {**prompt.given(), **options}) if options else prompt


def several(asked: Iterable[Asked], options: Options) -> Iterator[Callable[[], Request]]:
    """Functions that return each request or raise its error, over options for all; seeds count on from a first one.

    Raises:
        RequestError: `asked` is a single request, or an option for all is unknown.
    """
    if isinstance(asked, (str, bytes, Request)) or not isinstance(asked, Iterable):
        raise RequestError(f"requests is one {type(asked).__name__}, expected several in a list; for one clip use generate")
    common = with_present_names(options)
    seed = common.get("seed")
    first = None if seed is None else whole_number("seed", seed)

    def one(index: int, given: Asked) -> Callable[[], Request]:
        counted = {} if first is None else {"seed": first + index}
        return lambda: _over(given, {**common, **counted})

    return (one(index, given) for index, given in enumerate(asked))


def _over(given: Asked, options: Mapping[str, Any]) -> Request:
    """A request of several: what it says itself comes before the options for all."""
    pair = given if isinstance(given, tuple) else (given, {})
    if len(pair) != 2 or not isinstance(pair[1], Mapping):
        raise RequestError(f"a request is {shown(given)}, expected a prompt, a Request, or a prompt with its options in a dict")
    prompt, own = cast(tuple[str | Request, Mapping[str, Any]], pair)
    if isinstance(prompt, Request):
        return Request.from_options(prompt.prompt, {**options, **prompt.given(), **own})
    return Request.from_options(prompt, {**options, **own})


def check_settings(model: Any, precision: Any, threads: Any, providers: Any, session_options: Any) -> None:
    """Refuse arguments of `load` of another type."""
    if model is not None and not isinstance(model, (str, Path)):
        raise RequestError(f"model is {shown(model)}, expected the folder of a bundle, or a name that `sao-onnx models` lists")
    if precision is not None:
        text("precision", precision)
    if threads is not None:
        whole_number("threads", threads)
    if providers is not None and (isinstance(providers, str) or not _texts(providers)):
        raise RequestError(f"providers is {shown(providers)}, expected a list of names, such as ['CPUExecutionProvider']")
    if session_options is not None and not (
        isinstance(session_options, Mapping) and _texts([*session_options, *session_options.values()])
    ):
        raise RequestError(f"session_options is {shown(session_options)}, expected texts by their names in a dict")


def _texts(values: Any) -> bool:
    return isinstance(values, Sequence) and all(isinstance(value, str) for value in values)
