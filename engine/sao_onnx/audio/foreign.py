"""Recordings in formats that libsndfile does not read: what they are, and how to make a WAV of them."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

from sao_onnx.reading import open_ordinary

HEAD = 512
"""Bytes of a file that tell what it is."""

SIGNATURES: tuple[tuple[int, bytes, str], ...] = (
    (4, b"ftypM4A", "AAC or ALAC in MPEG-4 (.m4a)"),
    (4, b"ftypM4B", "an audio book in MPEG-4 (.m4b)"),
    (4, b"ftypqt", "QuickTime (.mov)"),
    (4, b"ftyp3g", "3GP, as phones record it"),
    (4, b"ftyp", "MPEG-4 (.mp4, .m4a)"),
    (4, b"moov", "QuickTime (.mov)"),
    (4, b"mdat", "QuickTime (.mov)"),
    (4, b"wide", "QuickTime (.mov)"),
    (0, b"ADIF", "AAC"),
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "Windows Media (.wma, .wmv)"),
    (0, b"\x1a\x45\xdf\xa3", "Matroska or WebM (.mkv, .webm)"),
    (8, b"AVI ", "AVI video"),
    (0, b"FLV\x01", "Flash video"),
    (0, b"\x00\x00\x01\xba", "MPEG video"),
    (0, b"\x00\x00\x01\xb3", "MPEG video"),
    (0, b"MAC ", "Monkey's Audio (.ape)"),
    (0, b"wvpk", "WavPack (.wv)"),
    (0, b"MPCK", "Musepack (.mpc)"),
    (0, b"MP+", "Musepack (.mpc)"),
    (0, b"TTA", "True Audio (.tta)"),
    (0, b"#!AMR", "AMR, as phones record it"),
    (0, b"DSD ", "DSD (.dsf)"),
    (0, b"FRM8", "DSD (.dff)"),
    (0, b".RMF", "RealMedia"),
    (0, b".ra\xfd", "RealAudio"),
    (0, b"\x0b\x77", "Dolby Digital (.ac3)"),
    (0, b"\x7f\xfe\x80\x01", "DTS"),
    (28, b"Speex   ", "Speex in Ogg"),
    (28, b"\x80theora", "Theora video in Ogg"),
)
"""Where in a file which bytes stand, and what it is then. The first that fits counts."""

SUFFIXES = {
    ".m4a": "AAC or ALAC in MPEG-4",
    ".m4b": "an audio book in MPEG-4",
    ".m4r": "a ring tone in MPEG-4",
    ".mp4": "MPEG-4",
    ".m4v": "MPEG-4 video",
    ".mov": "QuickTime",
    ".3gp": "3GP",
    ".aac": "AAC",
    ".alac": "ALAC",
    ".wma": "Windows Media",
    ".wmv": "Windows Media",
    ".asf": "Windows Media",
    ".mka": "Matroska",
    ".mkv": "Matroska",
    ".webm": "WebM",
    ".weba": "WebM",
    ".avi": "AVI video",
    ".flv": "Flash video",
    ".mpg": "MPEG video",
    ".mpeg": "MPEG video",
    ".mts": "MPEG video",
    ".ts": "MPEG video",
    ".ape": "Monkey's Audio",
    ".wv": "WavPack",
    ".mpc": "Musepack",
    ".tta": "True Audio",
    ".ac3": "Dolby Digital",
    ".eac3": "Dolby Digital",
    ".dts": "DTS",
    ".amr": "AMR",
    ".dsf": "DSD",
    ".dff": "DSD",
    ".ra": "RealAudio",
    ".rm": "RealMedia",
    ".spx": "Speex in Ogg",
    ".ogv": "Theora video in Ogg",
}
"""What the suffix of a name says of a file whose bytes say nothing."""

OURS = (b"RIFF", b"RIFX", b"RF64", b"riff", b"fLaC", b"OggS", b"FORM", b"ID3", b".snd", b"caff")
"""How files begin that libsndfile reads: whatever is wrong with one, it is not its format."""

ENCODING = 4
"""libsndfile's number for a container that it knows with an encoding inside that it does not, as ALAC in .caf."""

NOTES = "MIDI"
"""What holds notes, of which no converter makes sound."""

READ = "WAV, FLAC, Ogg, Opus, MP3 or AIFF"
"""The formats to name: libsndfile reads some more, which hardly anybody has."""


def foreign_format(head: bytes) -> str:
    """What a file is by its first bytes, if it is of a format that libsndfile does not read; otherwise "".

    Args:
        head: `HEAD` bytes, or the whole file.
    """
    if head[:4] == b"MThd":
        return NOTES
    # AAC in a stream: twelve bits for a beginning, and two zeros where MP3 has its layer.
    if len(head) > 1 and head[0] == 0xFF and head[1] & 0xF6 == 0xF0:
        return "AAC"
    # Packets of 188 bytes that all begin with one letter.
    if len(head) > 376 and head[0] == head[188] == head[376] == 0x47:
        return "MPEG video"
    return next((name for start, mark, name in SIGNATURES if head[start : start + len(mark)] == mark), "")


def foreign_file(path: str | Path, error: Exception | None = None) -> str:
    """Why a file is read as audio nowhere here, and what makes a WAV of it; "" where that is not known.

    Args:
        path: A file that libsndfile does not read.
        error: What soundfile says of it.
    """
    path = Path(path)
    if getattr(error, "code", None) == ENCODING:
        return f"its encoding is not known here; {remedy('', path)}"
    try:
        with open_ordinary(path) as stream:
            head = stream.read(HEAD)
    except OSError:
        return ""
    if not head:
        return ""
    if found := foreign_format(head):
        return f"it is {found}; {remedy(found, path)}"
    if not head.startswith(OURS) and (found := SUFFIXES.get(path.suffix.lower(), "")):
        return f"its name says {found}; {remedy(found, path)}"
    return ""


def remedy(found: str, path: Path) -> str:
    """How to come from a format to a WAV.

    Args:
        found: What `foreign_format` says.
        path: The file, as whoever reads it names it.
    """
    if found == NOTES:
        return f"it holds notes and no sound; render it with a synthesizer, to {READ}"
    return f"expected {READ}; ffmpeg makes a WAV of it: {_command(path)}"


def _command(path: Path) -> str:
    """The command as a shell of this system takes it."""
    names = [os.fspath(name) for name in (path, path.with_suffix(".wav"))]
    # What begins with a hyphen would be an option.
    source, target = (f".{os.sep}{name}" if name.startswith("-") else name for name in names)
    words = ["ffmpeg", "-i", source, target]
    return subprocess.list2cmdline(words) if sys.platform == "win32" else shlex.join(words)
