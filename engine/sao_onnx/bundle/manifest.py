"""What a bundle says about itself: `manifest.json` as frozen dataclasses.

The converter writes the manifest and the engine reads it with the same types, so neither can drift from the other. Pure data:
nothing here opens a file.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath
from typing import Literal

from sao_onnx.bundle.schema import SchemaError, read
from sao_onnx.errors import BundleError

FORMAT = 2

Precision = Literal["int8", "fp32"]
"""Numbers that a graph's weights and arithmetic use."""

PRECISIONS: tuple[Precision, ...] = ("int8", "fp32")
"""Every precision, the one to prefer first."""

Role = Literal["text_encoder", "number_conditioner", "context", "dit", "decoder_1", "decoder_2", "decoder_3", "encoder"]
"""What a graph is for. The decoder is two or three graphs, one behind the other."""

DECODER_ROLES: tuple[Role, ...] = ("decoder_1", "decoder_2", "decoder_3")

FileRole = Literal["graph", "weights", "tokenizer", "license"]

SamplerName = Literal["pingpong", "euler", "dpmpp"]
"""The samplers; here, because a manifest names its model's default one."""

ObjectiveName = Literal["rf_denoiser", "rectified_flow"]
"""What a model was trained to predict; `sampling.objectives` has their mathematics."""

DType = Literal["float32", "int64"]


@dataclass(frozen=True)
class Model:
    """Where the weights came from.

    Attributes:
        name: Short name of the model.
        source: Repository id or folder name of the checkpoint.
        revision: Commit of that repository, if it was one.
    """

    name: str
    source: str
    revision: str | None


@dataclass(frozen=True)
class Audio:
    """What the model makes.

    Attributes:
        sample_rate: In hertz.
        channels: 1 or 2.
        window: Frames of the longest clip, the length that the model was trained on.
    """

    sample_rate: int
    channels: int
    window: int


@dataclass(frozen=True)
class Latents:
    """The autoencoder's latents: `channels` numbers for every `ratio` audio frames."""

    channels: int
    ratio: int


@dataclass(frozen=True)
class Prompt:
    """The text conditioner.

    Attributes:
        id: Its name among the conditioners.
        max_length: Tokens that a prompt is cut and padded to.
        pad_id: Token that fills the rest.
    """

    id: str
    max_length: int
    pad_id: int


@dataclass(frozen=True)
class Number:
    """A number conditioner, with the range that it is clamped to."""

    id: str
    minimum: float
    maximum: float


@dataclass(frozen=True)
class Conditioning:
    """How conditioners become inputs of the DiT.

    Attributes:
        width: Channels of every conditioning token.
        cross_attention: Conditioner ids, in the order in which their tokens are concatenated.
        global_condition: Number conditioner ids, in the order in which their channels are concatenated.
    """

    width: int
    prompt: Prompt
    numbers: tuple[Number, ...]
    cross_attention: tuple[str, ...]
    global_condition: tuple[str, ...]


@dataclass(frozen=True)
class Sampling:
    """The model's objective and the settings that it is meant to be used with."""

    objective: ObjectiveName
    sampler: SamplerName
    steps: int
    cfg_scale: float


@dataclass(frozen=True)
class DecoderStage:
    """One of the graphs that the decoder is cut into. The first runs over a whole clip, the others in tiles.

    Attributes:
        rate: Frames per latent of its input; 1 for the first.
        context: Frames of its input that it must see on each side of a tile for the tile to be exact.
        tile: Latents in a tile; 0 for the first.
    """

    rate: int
    context: int
    tile: int


@dataclass(frozen=True)
class File:
    """A file of the bundle, its path relative to the manifest, with `/` between folders."""

    path: str
    role: FileRole
    size: int
    sha256: str


@dataclass(frozen=True)
class Tensor:
    """An input or output of a graph; a named axis is dynamic."""

    name: str
    dtype: DType
    shape: tuple[int | str, ...]


@dataclass(frozen=True)
class Graph:
    """An ONNX graph.

    Attributes:
        path: Its `.onnx` file.
        weights: The external weight files that it reads.
        max_error: Largest difference to the torch module that was measured, relative to the output's peak where that
            exceeds 1.
        snr: Signal-to-noise ratio against the torch module, in decibels. In int8, that of the decoder's last graph is the whole
            decoder's.
        tolerance: What `max_error` was allowed to be, None if it was not bounded.
        min_snr: What `snr` should be at least, None if it was not bounded.
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
    """Everything that the engine must know of a bundle before it opens a graph."""

    format: int
    model: Model
    audio: Audio
    latents: Latents
    conditioning: Conditioning
    sampling: Sampling
    decoder: tuple[DecoderStage, ...]
    tokenizer: str
    files: tuple[File, ...]
    graphs: tuple[Graph, ...]
    tools: dict[str, str]

    @property
    def precisions(self) -> tuple[Precision, ...]:
        """The precisions in which every graph is there, the one to prefer first."""
        held = {(graph.role, graph.precision) for graph in self.graphs}
        return tuple(p for p in PRECISIONS if all((role, p) in held for role in self.roles))

    @property
    def decoder_roles(self) -> tuple[Role, ...]:
        """The roles of the decoder's graphs, in the order in which they run."""
        return DECODER_ROLES[: len(self.decoder)]

    @property
    def roles(self) -> tuple[Role, ...]:
        """The roles that every precision must fill."""
        return ("text_encoder", "number_conditioner", "context", "dit", *self.decoder_roles, "encoder")

    @property
    def window_latents(self) -> int:
        """Latents in a whole window."""
        return self.audio.window // self.latents.ratio

    @property
    def window_seconds(self) -> float:
        """Seconds in a whole window."""
        return self.audio.window / self.audio.sample_rate

    def graph(self, role: Role, precision: Precision) -> Graph:
        """The graph for a role.

        Raises:
            BundleError: The bundle does not hold it.
        """
        for graph in self.graphs:
            if (graph.role, graph.precision) == (role, precision):
                return graph
        raise BundleError(f"the bundle holds no {role} in {precision}; it holds {', '.join(self.precisions)}")

    def to_json(self) -> str:
        """The text of `manifest.json`."""
        return json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n"


def parse_manifest(text: str) -> Manifest:
    """Read the text of `manifest.json`.

    Raises:
        BundleError: It is not JSON, of another format version, has missing or unknown fields, unsafe paths, or contradicts
            itself.
    """
    try:
        data = json.loads(text)
    except ValueError as error:
        raise BundleError(f"manifest.json is not valid JSON ({error}); convert the model again") from error
    version = data.get("format") if isinstance(data, dict) else None
    if version != FORMAT or isinstance(version, bool):
        newer = isinstance(version, int) and version > FORMAT
        remedy = "upgrade sao-onnx" if newer else "convert the model again"
        raise BundleError(f"manifest.json has format {version!r}, this release reads format {FORMAT}: {remedy}")
    try:
        manifest = read(Manifest, data)
        _check(manifest)
    except SchemaError as error:
        raise BundleError(f"manifest.json: {error}") from error
    return manifest


def _check(manifest: Manifest) -> None:
    paths = [file.path for file in manifest.files]
    for path in paths:
        if not safe_path(path):
            raise SchemaError("files", f"unsafe path {path!r}; expected a relative path inside the bundle")
    if len(set(paths)) != len(paths):
        raise SchemaError("files", "a path is listed twice")
    named = [manifest.tokenizer, *(p for graph in manifest.graphs for p in (graph.path, *graph.weights))]
    for path in named:
        if path not in paths:
            raise SchemaError("files", f"{path!r} is used but not listed")
    for name, value in (
        ("audio.sample_rate", manifest.audio.sample_rate),
        ("audio.channels", manifest.audio.channels),
        ("audio.window", manifest.audio.window),
        ("latents.channels", manifest.latents.channels),
        ("latents.ratio", manifest.latents.ratio),
        ("conditioning.width", manifest.conditioning.width),
        ("conditioning.prompt.max_length", manifest.conditioning.prompt.max_length),
        ("sampling.steps", manifest.sampling.steps),
    ):
        if value < 1:
            raise SchemaError(name, f"found {value}, expected at least 1")
    _check_decoder(manifest)
    known = {manifest.conditioning.prompt.id, *(number.id for number in manifest.conditioning.numbers)}
    for id in (*manifest.conditioning.cross_attention, *manifest.conditioning.global_condition):
        if id not in known:
            raise SchemaError("conditioning", f"{id!r} is not a conditioner of this model ({', '.join(sorted(known))})")
    if not manifest.precisions:
        raise SchemaError("graphs", f"no precision is complete; each needs {', '.join(manifest.roles)}")


def _check_decoder(manifest: Manifest) -> None:
    stages = manifest.decoder
    if not 2 <= len(stages) <= len(DECODER_ROLES):
        raise SchemaError("decoder", f"found {len(stages)} stages, expected 2 or {len(DECODER_ROLES)}")
    if stages[0] != DecoderStage(rate=1, context=0, tile=0):
        raise SchemaError("decoder[0]", "the first stage must have rate 1, context 0 and tile 0")
    rates = [*(stage.rate for stage in stages), manifest.latents.ratio]
    for i, stage in enumerate(stages[1:], start=1):
        if stage.rate < 1 or rates[i + 1] % stage.rate or stage.context < 0 or stage.tile < 1:
            raise SchemaError(f"decoder[{i}]", "rate must divide the next one, context must be 0 or more and tile at least 1")


def safe_path(path: str) -> bool:
    """Whether a path stays inside the folder that it is relative to, on every operating system."""
    parts = PurePosixPath(path).parts
    return bool(parts) and not path.startswith("/") and "\\" not in path and ":" not in path and ".." not in parts
