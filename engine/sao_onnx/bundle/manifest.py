"""The manifest of a bundle, `manifest.json`, as frozen dataclasses.

The converter writes the manifest and the engine reads it with the same types. Nothing here opens a file.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Literal

from sao_onnx.errors import BundleError

FORMAT = 2
"""Version of the manifest's format that this release reads and writes."""

Precision = Literal["int8", "fp32"]
"""Number format of a graph's weights and arithmetic: mostly 8-bit integers, or single precision."""

PRECISIONS: tuple[Precision, ...] = ("int8", "fp32")
"""All precisions; the preferred one comes first."""

Role = Literal["text_encoder", "number_conditioner", "context", "dit", "decoder_1", "decoder_2", "decoder_3", "encoder"]
"""What a graph computes."""

CONDITIONER_ROLES: tuple[Role, ...] = ("text_encoder", "number_conditioner")
"""Graphs of the conditioner: prompt and numbers to conditioning tokens."""

DENOISER_ROLES: tuple[Role, ...] = ("context", "dit")
"""Graphs of the denoiser: the keys and values of its cross-attention, and the diffusion transformer."""

DECODER_ROLES: tuple[Role, ...] = ("decoder_1", "decoder_2", "decoder_3")
"""Graphs of the decoder, latents to audio, in the order in which they run. A model may have only the first two."""

ENCODER_ROLES: tuple[Role, ...] = ("encoder",)
"""The graph of the encoder: audio to latents."""

StageName = Literal["conditioner", "denoiser", "decoder", "encoder"]
"""Stages of the engine. The graphs of a stage are loaded and dropped together."""

FileRole = Literal["graph", "weights", "tokenizer", "license", "prompts"]
"""What a file of a bundle holds."""

SamplerName = Literal["pingpong", "euler", "dpmpp"]
"""Names of the samplers. They are defined here because a manifest names its model's default sampler."""

ObjectiveName = Literal["rf_denoiser", "rectified_flow"]
"""What a model was trained to predict; `sampling.objectives` has their mathematics."""

DType = Literal["float32", "int64"]
"""Number formats of the inputs and outputs of graphs."""

DURATION, START, TEMPO = "seconds_total", "seconds_start", "bpm"
"""Ids of number conditioners with a meaning: how long the sound shall be, where in it the window begins, beats a minute."""

NO_IDENTITY = {"identity": False}
"""Metadata of a field that follows from others: bundles with and without it are the same bundle."""


@dataclass(frozen=True)
class Base:
    """Another checkpoint, which gave the parts that the converted one does not have.

    Attributes:
        source: Repository id or folder name of the checkpoint.
        revision: Commit of the repository; None for a folder.
        weights: Name of the file with the weights; None for `model.safetensors`.
        parts: What it gave: transformer, conditioners, autoencoder.
    """

    source: str
    revision: str | None
    weights: str | None
    parts: tuple[str, ...]


@dataclass(frozen=True)
class Model:
    """The checkpoint that was converted.

    Attributes:
        name: Short name of the model.
        source: Repository id or folder name of the checkpoint.
        revision: Commit of the repository; None for a folder.
        weights: Name of the file with the weights; None for `model.safetensors`.
        base: Where parts of the model came from that the checkpoint does not have; None if it is whole.
    """

    name: str
    source: str
    revision: str | None
    weights: str | None = None
    base: Base | None = None


@dataclass(frozen=True)
class Lora:
    """A LoRA that was merged into the weights.

    Attributes:
        name: Name of its file or folder.
        strength: What its changes were multiplied by.
        sha256: SHA-256 digest of its weights' file, in hexadecimal.
    """

    name: str
    strength: float
    sha256: str


@dataclass(frozen=True)
class Audio:
    """The audio that the model generates.

    Attributes:
        sample_rate: In hertz.
        channels: 1 or 2.
        window: Frames of the longest clip. It is the length that the model was trained on.
    """

    sample_rate: int
    channels: int
    window: int


@dataclass(frozen=True)
class Latents:
    """The autoencoder's latents.

    Attributes:
        channels: Numbers in one latent.
        ratio: Audio frames for one latent.
        margin: Latents on each side of a stretch of audio on which the encoder's output for it depends; None in bundles from
            before it was recorded. It follows from the encoder's graph, so it is no part of what identifies a bundle.
    """

    channels: int
    ratio: int
    margin: int | None = field(default=None, metadata=NO_IDENTITY)


@dataclass(frozen=True)
class Prompt:
    """The text conditioner.

    Attributes:
        id: Its name among the conditioners.
        max_length: Number of tokens to which every prompt is cut or padded.
        pad_id: Id of the padding token.
    """

    id: str
    max_length: int
    pad_id: int


@dataclass(frozen=True)
class Number:
    """A number conditioner.

    Attributes:
        id: Its name among the conditioners.
        minimum: Lower end of the range to which its graph clamps the number.
        maximum: Upper end of that range.
    """

    id: str
    minimum: float
    maximum: float

    @property
    def default(self) -> float:
        """What a request that does not say it stands for; of the length and the tempo, only where nothing else tells them.

        The reference refuses such a request. Its interface has 0 for `seconds_start`; the middle of a range is what makers of
        fine-tunes give where a recording was not measured.
        """
        if self.id == START:
            return min(max(0.0, self.minimum), self.maximum)
        return self.minimum / 2 + self.maximum / 2

    @property
    def range(self) -> str:
        """Name and range, for people."""
        return f"{self.id} ({self.minimum:g} to {self.maximum:g})"


@dataclass(frozen=True)
class Conditioners:
    """The conditioners, and how their outputs become inputs of the DiT.

    Attributes:
        width: Channels of every conditioning token.
        prompt: The text conditioner.
        numbers: The number conditioners.
        cross_attention: Ids of conditioners, in the order in which their tokens are concatenated.
        global_condition: Ids of number conditioners, in the order in which their channels are concatenated.
    """

    width: int
    prompt: Prompt
    numbers: tuple[Number, ...]
    cross_attention: tuple[str, ...]
    global_condition: tuple[str, ...]


@dataclass(frozen=True)
class Sampling:
    """The model's objective, and the sampling settings that are meant for it.

    Attributes:
        objective: What the model was trained to predict.
        sampler: Default sampler.
        steps: Default number of sampling steps.
        cfg_scale: Default scale of classifier-free guidance; 1 means no guidance.
    """

    objective: ObjectiveName
    sampler: SamplerName
    steps: int
    cfg_scale: float


@dataclass(frozen=True)
class SegmentTiling:
    """How a segment of the decoder is run.

    The decoder is cut into segments, with one graph for each. The first segment runs over a whole clip, the others run over
    tiles of it.

    Attributes:
        rate: Frames of the segment's input for one latent; 1 for the first segment.
        context: Frames of the input on each side of a tile that influence the tile's output; 0 for the first segment.
        tile: Latents in a tile; 0 for the first segment.
    """

    rate: int
    context: int
    tile: int


@dataclass(frozen=True)
class File:
    """A file of the bundle.

    Attributes:
        path: Path relative to the bundle's folder, with `/` between folders.
        role: What the file holds.
        size: In bytes.
        sha256: SHA-256 digest of its bytes, in hexadecimal.
    """

    path: str
    role: FileRole
    size: int
    sha256: str


@dataclass(frozen=True)
class Tensor:
    """An input or output of a graph.

    Attributes:
        name: Its name in the graph.
        dtype: Its number format.
        shape: Sizes of its axes. An axis of variable size has a name instead.
    """

    name: str
    dtype: DType
    shape: tuple[int | str, ...]


@dataclass(frozen=True)
class Graph:
    """An ONNX graph.

    Attributes:
        role: What it computes.
        precision: Number format of its weights and arithmetic.
        path: Its `.onnx` file.
        weights: The files that hold its weights.
        inputs: Its inputs.
        outputs: Its outputs.
        max_error: Largest measured difference to the torch module. It is relative to the output's peak where the peak is more
            than 1.
        snr: Signal-to-noise ratio against the torch module, in decibels. In int8, the value of the decoder's last graph is that
            of the whole decoder.
        tolerance: Largest allowed `max_error`; None if there was no limit.
        min_snr: Smallest wanted `snr`; None if there was no limit.
    """

    role: Role
    precision: Precision
    path: str
    weights: tuple[str, ...]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    max_error: float
    snr: float
    tolerance: float | None
    min_snr: float | None


@dataclass(frozen=True)
class Manifest:
    """Everything that the engine must know about a bundle before it opens a graph.

    Attributes:
        format: Version of the manifest's format; `FORMAT`.
        model: The checkpoint that was converted.
        audio: The audio that the model generates.
        latents: The autoencoder's latents.
        conditioning: The conditioners.
        sampling: The objective, and default sampling settings.
        decoder: The segments of the decoder, in the order in which they run.
        tokenizer: Path of the tokenizer's file.
        files: All files of the bundle, but the manifest.
        graphs: All graphs, in all precisions.
        tools: Versions of the programs that made the bundle, by name.
        loras: The LoRAs in its weights, in the order in which they were merged.
    """

    format: int
    model: Model
    audio: Audio
    latents: Latents
    conditioning: Conditioners
    sampling: Sampling
    decoder: tuple[SegmentTiling, ...]
    tokenizer: str
    files: tuple[File, ...]
    graphs: tuple[Graph, ...]
    tools: dict[str, str]
    loras: tuple[Lora, ...] = ()

    @property
    def precisions(self) -> tuple[Precision, ...]:
        """The precisions in which the bundle has every graph; the preferred one comes first."""
        held = {(graph.role, graph.precision) for graph in self.graphs}
        return tuple(p for p in PRECISIONS if all((role, p) in held for role in self.roles))

    @property
    def decoder_roles(self) -> tuple[Role, ...]:
        """The roles of the decoder's graphs, in the order in which they run."""
        return DECODER_ROLES[: len(self.decoder)]

    @property
    def roles(self) -> tuple[Role, ...]:
        """The roles of the graphs that every precision must have."""
        return (*CONDITIONER_ROLES, *DENOISER_ROLES, *self.decoder_roles, *ENCODER_ROLES)

    def stage_roles(self, stage: StageName) -> tuple[Role, ...]:
        """The roles of a stage's graphs, in the order in which they run."""
        by_stage: dict[StageName, tuple[Role, ...]] = {
            "conditioner": CONDITIONER_ROLES,
            "denoiser": DENOISER_ROLES,
            "decoder": self.decoder_roles,
            "encoder": ENCODER_ROLES,
        }
        return by_stage[stage]

    @property
    def window_latents(self) -> int:
        """Latents in a whole window."""
        return self.audio.window // self.latents.ratio

    @property
    def window_seconds(self) -> float:
        """Seconds in a whole window."""
        return self.audio.window / self.audio.sample_rate

    def graph(self, role: Role, precision: Precision) -> Graph:
        """The graph of a role in a precision.

        Raises:
            BundleError: The bundle does not have it.
        """
        for graph in self.graphs:
            if (graph.role, graph.precision) == (role, precision):
                return graph
        raise BundleError(f"the bundle holds no {role} in {precision}; it holds {', '.join(self.precisions)}")

    def to_json(self) -> str:
        """The text of `manifest.json`."""
        data = asdict(self)
        # Left out where there is nothing to say, so that releases that do not know them read the manifest.
        for name in ("weights", "base"):
            if data["model"][name] is None:
                del data["model"][name]
        if not self.loras:
            del data["loras"]
        return json.dumps(data, indent=1, ensure_ascii=False) + "\n"
