"""Clips as the bytes that a client asks for."""

from __future__ import annotations

from sao_onnx.audio.formats import AUDIO_FORMATS
from sao_onnx.errors import RequestError

MEDIA_TYPES = {
    "wav": "audio/wav",
    "flac": "audio/flac",
    "ogg": "audio/ogg",
    "opus": "audio/ogg; codecs=opus",
    "mp3": "audio/mpeg",
}
"""What each format is called in HTTP."""

BITS = {name: bits for name in MEDIA_TYPES if (bits := tuple(filter(None, AUDIO_FORMATS[f".{name}"].codecs)))}
"""Bits of a sample that each format can have, the usual ones first; formats that are compressed have none."""

ALSO = {
    "audio/x-wav": "wav",
    "audio/wave": "wav",
    "audio/vnd.wave": "wav",
    "audio/x-flac": "flac",
    "audio/mp3": "mp3",
    "audio/opus": "opus",
}
"""Other names that clients use."""

DEFAULT = "wav"


def known(format: str) -> str:
    """A format by its name.

    Raises:
        RequestError: It is unknown.
    """
    name = format.lower().removeprefix(".")
    if f".{name}" not in AUDIO_FORMATS:
        raise RequestError(f"format is {format!r}, expected {', '.join(MEDIA_TYPES)}")
    return name


def accepted(accept: str) -> str:
    """The format that an `Accept` header prefers; the default where it names none of ours, or everything."""
    best, weight = DEFAULT, 0.0
    names = {media.split(";")[0]: name for name, media in reversed(MEDIA_TYPES.items())} | ALSO
    for part in accept.split(","):
        media, *parameters = (text.strip().lower() for text in part.split(";"))
        quality = next((parameter[2:] for parameter in parameters if parameter.startswith("q=")), "1")
        try:
            wanted = float(quality)
        except ValueError:
            continue
        name = "opus" if media == "audio/ogg" and "codecs=opus" in parameters else names.get(media)
        if name is not None and wanted > weight:
            best, weight = name, wanted
    return best
