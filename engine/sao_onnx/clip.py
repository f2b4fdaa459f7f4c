"""What a generation returns."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sao_onnx.arrays import Array
from sao_onnx.audio.files import encode_audio, write_whole
from sao_onnx.provenance import Recipe


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

    def __add__(self, other: Timings) -> Timings:
        """Of one after the other."""
        return Timings(*(a + b for a, b in zip(vars(self).values(), vars(other).values(), strict=True)))

    @property
    def total(self) -> float:
        """Their sum."""
        return self.load + self.conditioning + self.encoding + self.sampling + self.decoding


@dataclass(frozen=True, eq=False)
class Clip:
    """Generated audio and where it came from.

    Attributes:
        samples: float32 [channels, frames], full scale at 1.
        sample_rate: In hertz.
        seed: Generates the clip again, with the same request, model and precision.
        latents: float32 [latent channels, n], before decoding.
        timings: Where the time went.
        recipe: What it was made with.
    """

    samples: Array
    sample_rate: int
    seed: int
    latents: Array
    timings: Timings
    recipe: Recipe

    @property
    def seconds(self) -> float:
        """Length."""
        return int(self.samples.shape[1]) / self.sample_rate

    def encoded(self, suffix: str = ".wav", *, bits: int | None = None, metadata: bool = True) -> bytes:
        """The bytes of an audio file; for the arguments and errors see `save`."""
        tags = self.recipe.tags() if metadata else None
        return encode_audio(self.samples, self.sample_rate, suffix, bits=bits, tags=tags)

    def save(self, path: str | Path, *, overwrite: bool = False, bits: int | None = None, metadata: bool = True) -> Path:
        """Write the clip as the format that the suffix names: .wav, .flac, .ogg, .opus or .mp3.

        The file appears whole or not at all.

        Args:
            path: Where to.
            overwrite: Replace a file that exists.
            bits: A sample: 16, 24 or, in .wav, 32 (floating point); by default 16. Compressed formats have none.
            metadata: Write prompt and recipe into the file's tags; `recipe_of` reads them.

        Returns:
            The path.

        Raises:
            OutputExistsError: The file exists and `overwrite` is not set.
            AudioFileError: It cannot be written, or the format is unknown.
        """
        path = Path(path).expanduser()
        write_whole(path, self.encoded(path.suffix, bits=bits, metadata=metadata), overwrite=overwrite)
        return path
