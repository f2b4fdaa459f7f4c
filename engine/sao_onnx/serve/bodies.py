"""What a client sends, read into a `Request` under the server's limits."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sao_onnx.arrays import Array
from sao_onnx.audio.foreign import HEAD, READ, foreign_format, remedy
from sao_onnx.audio.limits import HIGHEST_RATE, LOWEST_RATE, MAX_CHANNELS
from sao_onnx.errors import AudioFileError, RequestError
from sao_onnx.option import shown
from sao_onnx.reading import parse_json
from sao_onnx.request import Request, random_seed, require_words
from sao_onnx.serve.schema import NOT_IN_JSON
from sao_onnx.serve.settings import Limits


@dataclass(frozen=True)
class Asked:
    """A request of our own interface.

    Attributes:
        model: Its name; "" for the default one.
        request: With its seed.
        preview: Estimates are wanted while it is sampled.
    """

    model: str
    request: Request
    preview: bool


def json_object(body: bytes | str) -> dict[str, Any]:
    """A JSON object.

    Raises:
        RequestError: The body is none.
    """
    try:
        data = parse_json(body if isinstance(body, str) else body.decode("utf-8"))
    except ValueError as error:
        raise RequestError(f"the body is not JSON: {error}") from error
    if not isinstance(data, dict):
        raise RequestError(f'the body is {shown(data)}, expected an object such as {{"prompt": "rain"}}')
    return data


def asked(fields: Mapping[str, Any], limits: Limits, audio: tuple[Array, int] | None = None) -> Asked:
    """What an object of our own interface asks for.

    Args:
        fields: Of the object.
        limits: Of the server.
        audio: To start from.

    Raises:
        RequestError: A field is unknown or its value out of range.
    """
    options = dict(fields)
    prompt, model, preview = options.pop("prompt", None), options.pop("model", ""), options.pop("preview", False)
    if prompt is None:
        raise RequestError('the field "prompt" is missing')
    if not isinstance(model, str):
        raise RequestError(f"model is {shown(model)}, expected text")
    if not isinstance(preview, bool):
        raise RequestError(f"preview is {shown(preview)}, expected true or false")
    if named := NOT_IN_JSON & options.keys():
        raise RequestError(f'{" and ".join(sorted(named))} cannot be named in JSON; send audio as the part "audio" of a form')
    return Asked(model, limited(prompt, options, limits, audio), preview)


def limited(prompt: Any, options: Mapping[str, Any], limits: Limits, audio: tuple[Array, int] | None = None) -> Request:
    """A request with a seed, within the server's limits.

    Raises:
        RequestError: An option is unknown or its value out of range, or beyond the limits; or there is nothing to begin with.
    """
    given = {name: value for name, value in options.items() if value is not None}
    if audio is not None:
        given["init_audio"] = audio
    request = Request.from_options(prompt, {"seed": random_seed(), **given})
    require_words(request)
    for name, text in (("prompt", request.prompt), ("negative_prompt", request.negative_prompt or "")):
        if len(text) > limits.prompt:
            raise RequestError(f"{name} has {len(text)} characters, expected at most {limits.prompt} on this server")
    for name, value, most in (
        ("seconds", request.seconds, limits.seconds),
        ("extend", request.extend, limits.seconds),
        ("window_seconds", request.window_seconds, limits.seconds),
        ("steps", request.steps, limits.steps),
    ):
        if value is not None and value > most:
            raise RequestError(f"{name} is {value:g}, expected at most {most:g} on this server")
    return request


def decoded(data: bytes, limits: Limits) -> tuple[Array, int]:
    """Audio that was sent: float32 [channels, frames], and its sample rate in hertz.

    Raises:
        AudioFileError: It is no audio, or longer than the server takes.
    """
    import soundfile

    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            rate, channels = int(file.samplerate), int(file.channels)
            if not (LOWEST_RATE <= rate <= HIGHEST_RATE and 1 <= channels <= MAX_CHANNELS):
                raise AudioFileError(
                    f"the recording has {channels} channels at {rate} Hz, "
                    f"expected at most {MAX_CHANNELS} at {LOWEST_RATE} to {HIGHEST_RATE} Hz"
                )
            # What the header says of its length is not believed.
            most = min(int(limits.recording * rate), limits.decoded // (4 * channels))
            samples = file.read(most + 1, dtype="float32", always_2d=True)
    except (OSError, RuntimeError, TypeError, ValueError) as error:
        if isinstance(error, AudioFileError):
            raise
        found = foreign_format(data[:HEAD])
        if not found:
            raise AudioFileError(f"what was sent as audio cannot be read; expected {READ}") from error
        what = f"it is {found}; {remedy(found, Path('recording'))}"
        raise AudioFileError(f"what was sent as audio cannot be read: {what}") from error
    if len(samples) > most:
        raise AudioFileError(f"the recording is longer than {most / rate:.0f} s, which this server takes; cut it")
    return samples.T, rate
