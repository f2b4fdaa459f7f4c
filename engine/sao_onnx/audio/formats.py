"""Audio file formats that a clip can be written in."""

from __future__ import annotations

from dataclasses import dataclass

from sao_onnx.errors import AudioFileError


@dataclass(frozen=True)
class Format:
    """A format of audio files.

    Attributes:
        container: libsndfile's name of the container.
        codecs: libsndfile's name of the encoding for each supported number of bits in a sample. The default comes first. 0
            stands for compressed formats, where the number of bits cannot be chosen.
        rate: The only sample rate that the format supports, in hertz; None if it supports all.
    """

    container: str
    codecs: dict[int, str]
    rate: int | None = None


AUDIO_FORMATS = {
    ".wav": Format("WAV", {16: "PCM_16", 24: "PCM_24", 32: "FLOAT"}),
    ".flac": Format("FLAC", {16: "PCM_16", 24: "PCM_24"}),
    ".ogg": Format("OGG", {0: "VORBIS"}),
    ".opus": Format("OGG", {0: "OPUS"}, rate=48_000),
    ".mp3": Format("MP3", {0: "MPEG_LAYER_III"}),
}
"""The formats by the suffix of the file's name."""


def audio_format(suffix: str, bits: int | None) -> tuple[Format, int]:
    """Find the format for a suffix.

    Args:
        suffix: Suffix of a file's name, with its dot; upper or lower case.
        bits: Bits in a sample; None for the format's default.

    Returns:
        The format, and the number of bits: a key of its `codecs`.

    Raises:
        AudioFileError: The suffix is unknown, or the format does not support this number of bits.
    """
    format = AUDIO_FORMATS.get(suffix.lower())
    if format is None:
        known = ", ".join(AUDIO_FORMATS)
        raise AudioFileError(f"files cannot be written as {suffix or 'files without a suffix'!r}; known: {known}")
    if bits is None:
        return format, next(iter(format.codecs))
    offered = [depth for depth in format.codecs if depth]
    if bits not in offered:
        known = f"known: {', '.join(map(str, offered))}" if offered else "they are compressed; leave the bits out"
        raise AudioFileError(f"{suffix} files cannot have {bits} bits a sample; {known}")
    return format, offered[offered.index(bits)]  # Python's own number, whatever NumPy's it was.
