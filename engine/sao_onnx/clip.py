"""What a generation returns."""

from __future__ import annotations

import base64
import html
from dataclasses import dataclass, replace
from pathlib import Path

from sao_onnx.arrays import Array
from sao_onnx.audio.files import encode_audio, write_audio
from sao_onnx.audio.formats import audio_format
from sao_onnx.places import expand_home
from sao_onnx.provenance import Provenance
from sao_onnx.warn import warn


@dataclass(frozen=True)
class Timings:
    """Seconds that each stage of a generation worked; what its consumer did between two events does not count.

    Attributes:
        load: Opening graphs.
        conditioning: Prompt and numbers.
        encoding: Initial audio to latents.
        sampling: All steps.
        decoding: Latents to audio.
    """

    load: float = 0.0
    conditioning: float = 0.0
    encoding: float = 0.0
    sampling: float = 0.0
    decoding: float = 0.0

    @property
    def total(self) -> float:
        """Their sum."""
        return self.load + self.conditioning + self.encoding + self.sampling + self.decoding


@dataclass(frozen=True, eq=False, repr=False)
class Clip:
    """Generated audio and where it came from.

    Attributes:
        samples: float32 [channels, frames], full scale at 1.
        sample_rate: In hertz.
        seed: Generates the clip again, with the same request, model and precision.
        latents: Before decoding, float32 [latent channels, n]; of an extended recording, those of its last window.
        timings: Where the time went.
        provenance: What it was made with.
    """

    samples: Array
    sample_rate: int
    seed: int
    latents: Array
    timings: Timings
    provenance: Provenance

    def __repr__(self) -> str:
        channels, rate = len(self.samples), self.sample_rate
        return f"Clip({self.provenance.prompt!r}, {self.seconds:.2f} s, {channels} channels at {rate} Hz, seed {self.seed})"

    def _repr_html_(self) -> str:
        """A player, for notebooks."""
        audio = base64.b64encode(self.encoded(metadata=False)).decode()
        text = html.escape(f"{self.provenance.prompt} · seed {self.seed}")
        return f'<figure><audio controls src="data:audio/wav;base64,{audio}"></audio><figcaption>{text}</figcaption></figure>'

    @property
    def recipe(self) -> Provenance:
        """The old name of `provenance`."""
        warn("Clip.recipe is now Clip.provenance", DeprecationWarning)
        return self.provenance

    @property
    def seconds(self) -> float:
        """Length."""
        return int(self.samples.shape[1]) / self.sample_rate

    def encoded(self, suffix: str = ".wav", *, bits: int | None = None, metadata: bool = True) -> bytes:
        """The bytes of an audio file; for the arguments and errors see `save`."""
        depth = None if bits is None else audio_format(suffix, bits)[1]
        tags = replace(self.provenance, bits=depth).tags() if metadata else None
        return encode_audio(self.samples, self.sample_rate, suffix, bits=bits, tags=tags)

    def save(self, path: str | Path, *, overwrite: bool = False, bits: int | None = None, metadata: bool = True) -> Path:
        """Write the clip as the format that the suffix names: .wav, .flac, .ogg, .opus or .mp3.

        The file appears whole or not at all.

        Args:
            path: Where to.
            overwrite: Replace a file that exists.
            bits: A sample: 16, 24 or, in .wav, 32 (floating point); by default 16. Compressed formats have none.
            metadata: Write the provenance into the tags of the file; `read_provenance` reads it.

        Returns:
            The path.

        Raises:
            OutputExistsError: The file exists and `overwrite` is not set.
            AudioFileError: It cannot be written, or the format is unknown.
        """
        path = expand_home(path)
        write_audio(path, self.encoded(path.suffix, bits=bits, metadata=metadata), overwrite=overwrite)
        return path
