"""`model_config.json` as frozen dataclasses: what this project supports, and nothing else.

Each dataclass mirrors one object of the file. A `Literal` lists the supported values of a field; anything else, and every
field that is not listed, is refused by name, because an option that is ignored changes the numbers silently. Fields that only
training reads, or that have no effect on this objective, are accepted and unused.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from sao_onnx.schema import SchemaError, read
from sao_onnx_convert.errors import UnsupportedModelError


@dataclass(frozen=True)
class OobleckEncoderConfig:
    in_channels: int
    channels: int
    c_mults: tuple[int, ...]
    strides: tuple[int, ...]
    latent_dim: int
    use_snake: Literal[True]
    antialias_activation: Literal[False] = False


@dataclass(frozen=True)
class OobleckDecoderConfig:
    out_channels: int
    channels: int
    c_mults: tuple[int, ...]
    strides: tuple[int, ...]
    latent_dim: int
    use_snake: Literal[True]
    antialias_activation: Literal[False] = False
    use_nearest_upsample: Literal[False] = False
    final_tanh: bool = True


@dataclass(frozen=True)
class EncoderConfig:
    type: Literal["oobleck"]
    config: OobleckEncoderConfig


@dataclass(frozen=True)
class DecoderConfig:
    type: Literal["oobleck"]
    config: OobleckDecoderConfig


@dataclass(frozen=True)
class BottleneckConfig:
    type: Literal["vae"]


@dataclass(frozen=True)
class AutoencoderConfig:
    encoder: EncoderConfig
    decoder: DecoderConfig
    bottleneck: BottleneckConfig
    latent_dim: int
    downsampling_ratio: int
    io_channels: int


@dataclass(frozen=True)
class PretransformConfig:
    type: Literal["autoencoder"]
    config: AutoencoderConfig
    scale: float = 1.0
    # How the reference computes, not what: the converter widens half-precision weights, and batches are small.
    model_half: bool = False
    iterate_batch: bool = False
    enable_grad: bool = False
    chunked: bool = False


@dataclass(frozen=True)
class T5Options:
    t5_model_name: str
    max_length: int = 128
    enable_grad: bool = False
    project_out: bool = False


@dataclass(frozen=True)
class NumberOptions:
    min_val: float = 0.0
    max_val: float = 1.0


@dataclass(frozen=True)
class T5ConditionerConfig:
    id: str
    type: Literal["t5"]
    config: T5Options


@dataclass(frozen=True)
class NumberConditionerConfig:
    id: str
    type: Literal["number"]
    config: NumberOptions


@dataclass(frozen=True)
class ConditioningConfig:
    configs: tuple[T5ConditionerConfig | NumberConditionerConfig, ...]
    cond_dim: int


@dataclass(frozen=True)
class AttentionConfig:
    qk_norm: Literal["ln", "none"] = "none"


@dataclass(frozen=True)
class DiTConfig:
    io_channels: int
    embed_dim: int
    depth: int
    num_heads: int
    cond_token_dim: int
    global_cond_dim: int
    transformer_type: Literal["continuous_transformer"] = "continuous_transformer"
    attn_kwargs: AttentionConfig = AttentionConfig()
    use_abs_pos_emb: bool = False
    abs_pos_emb_max_length: int = 10_000
    project_cond_tokens: bool = True
    project_global_cond: Literal[True] = True
    global_cond_type: Literal["prepend"] = "prepend"
    timestep_cond_type: Literal["global"] = "global"
    patch_size: Literal[1] = 1


@dataclass(frozen=True)
class DiffusionConfig:
    cross_attention_cond_ids: tuple[str, ...]
    global_cond_ids: tuple[str, ...]
    diffusion_objective: Literal["rf_denoiser"]
    type: Literal["dit"]
    config: DiTConfig
    # The reference's samplers for this objective are handed their times, so this shift never applies.
    distribution_shift_options: dict[str, Any] | None = None


@dataclass(frozen=True)
class NetworksConfig:
    pretransform: PretransformConfig
    conditioning: ConditioningConfig
    diffusion: DiffusionConfig
    io_channels: int


@dataclass(frozen=True)
class ModelConfig:
    """The configuration of a checkpoint.

    Attributes:
        sample_size: Window in audio frames.
        sample_rate: In hertz.
    """

    model_type: Literal["diffusion_cond"]
    sample_size: int
    sample_rate: int
    audio_channels: int
    model: NetworksConfig
    training: dict[str, Any] = field(default_factory=dict)

    @property
    def window(self) -> int:
        """Latents of the longest clip."""
        return self.sample_size // self.model.pretransform.config.downsampling_ratio

    @property
    def prompt(self) -> T5ConditionerConfig:
        """The one text conditioner."""
        return next(part for part in self.model.conditioning.configs if isinstance(part, T5ConditionerConfig))

    @property
    def numbers(self) -> tuple[NumberConditionerConfig, ...]:
        """The number conditioners, in the order of the file."""
        return tuple(part for part in self.model.conditioning.configs if isinstance(part, NumberConditionerConfig))


def load_config(path: Path) -> ModelConfig:
    """Read and check `model_config.json`.

    Raises:
        UnsupportedModelError: The file is not JSON, has a field or value that is not supported, or contradicts itself.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UnsupportedModelError(f"{path} cannot be read as JSON: {error}") from error
    return parse_config(data)


def parse_config(data: object) -> ModelConfig:
    """Check a decoded `model_config.json`; see `load_config`."""
    try:
        config = read(ModelConfig, data)
        _check(config)
    except SchemaError as error:
        raise UnsupportedModelError(f"model_config.json: {error}") from error
    return config


def _check(config: ModelConfig) -> None:
    """Refuse what contradicts itself, naming the field."""
    networks = config.model
    autoencoder, conditioning, diffusion = networks.pretransform.config, networks.conditioning, networks.diffusion
    encoder, decoder, dit = autoencoder.encoder.config, autoencoder.decoder.config, diffusion.config
    _check_conditioning(config)
    pretransform = "model.pretransform.config"
    for where, part in ((f"{pretransform}.encoder.config", encoder), (f"{pretransform}.decoder.config", decoder)):
        sizes = (*part.c_mults, *part.strides, part.channels, part.latent_dim)
        if not part.strides or min(sizes) < 1:
            _refuse(where, "sizes must be positive and there must be at least one stride")
        if len(part.c_mults) != len(part.strides):
            _refuse(f"{where}.c_mults", f"found {len(part.c_mults)} multipliers for {len(part.strides)} strides")
        if math.prod(part.strides) != autoencoder.downsampling_ratio:
            _refuse(
                f"{where}.strides",
                f"their product {math.prod(part.strides)} is not the downsampling_ratio {autoencoder.downsampling_ratio}",
            )
    if networks.pretransform.scale != 1.0:
        _refuse("model.pretransform.scale", f"found {networks.pretransform.scale}, supported: 1.0")
    if encoder.latent_dim != 2 * autoencoder.latent_dim:
        _refuse(
            f"{pretransform}.encoder.config.latent_dim", f"found {encoder.latent_dim}, expected {2 * autoencoder.latent_dim}"
        )
    for name, found, expected in (
        (f"{pretransform}.decoder.config.latent_dim", decoder.latent_dim, autoencoder.latent_dim),
        (f"{pretransform}.encoder.config.in_channels", encoder.in_channels, config.audio_channels),
        (f"{pretransform}.decoder.config.out_channels", decoder.out_channels, config.audio_channels),
        (f"{pretransform}.io_channels", autoencoder.io_channels, config.audio_channels),
        ("model.io_channels", networks.io_channels, autoencoder.latent_dim),
        ("model.diffusion.config.io_channels", dit.io_channels, autoencoder.latent_dim),
        ("model.diffusion.config.cond_token_dim", dit.cond_token_dim, conditioning.cond_dim),
        (
            "model.diffusion.config.global_cond_dim",
            dit.global_cond_dim,
            conditioning.cond_dim * len(diffusion.global_cond_ids),
        ),
    ):
        if found != expected:
            _refuse(name, f"found {found}, expected {expected} from the rest of the configuration")
    _check_dit(dit)
    if config.sample_rate < 1 or config.sample_size < autoencoder.downsampling_ratio:
        _refuse("sample_size", f"found {config.sample_size} at {config.sample_rate} Hz, expected at least one latent")
    if config.sample_size % autoencoder.downsampling_ratio:
        _refuse("sample_size", f"{config.sample_size} is not a multiple of the ratio {autoencoder.downsampling_ratio}")
    tokens = config.window + 1  # one is prepended
    if dit.use_abs_pos_emb and dit.abs_pos_emb_max_length < tokens:
        _refuse(
            "model.diffusion.config.abs_pos_emb_max_length",
            f"found {dit.abs_pos_emb_max_length}, expected at least the {tokens} tokens of a window",
        )


def _check_conditioning(config: ModelConfig) -> None:
    conditioning, diffusion = config.model.conditioning, config.model.diffusion
    prompts = [part.id for part in conditioning.configs if isinstance(part, T5ConditionerConfig)]
    ids = [part.id for part in conditioning.configs]
    if len(prompts) != 1:
        _refuse("model.conditioning.configs", f"found {len(prompts)} conditioners of type 't5', supported: exactly one")
    if len(set(ids)) != len(ids):
        _refuse("model.conditioning.configs", f"an id occurs twice: {', '.join(ids)}")
    if prompts[0] not in diffusion.cross_attention_cond_ids:
        _refuse("model.diffusion.cross_attention_cond_ids", f"the text conditioner {prompts[0]!r} is missing")
    if not diffusion.global_cond_ids:
        _refuse("model.diffusion.global_cond_ids", "found none, supported: at least one number conditioner")
    for name in ("cross_attention_cond_ids", "global_cond_ids"):
        for id in getattr(diffusion, name):
            if id not in ids:
                _refuse(f"model.diffusion.{name}", f"{id!r} is not among the conditioners {', '.join(ids)}")
    if prompts[0] in diffusion.global_cond_ids:
        _refuse("model.diffusion.global_cond_ids", f"{prompts[0]!r} is text, supported: number conditioners")
    for number in config.numbers:
        if number.config.max_val <= number.config.min_val:
            _refuse("model.conditioning.configs", f"{number.id!r}: max_val must exceed min_val")
    if config.prompt.config.max_length < 1:
        _refuse("model.conditioning.configs", "max_length must be positive")


def _check_dit(dit: DiTConfig) -> None:
    where = "model.diffusion.config"
    if min(dit.embed_dim, dit.depth, dit.num_heads, dit.cond_token_dim) < 1:
        _refuse(where, "sizes must be positive")
    if dit.embed_dim % dit.num_heads:
        _refuse(f"{where}.num_heads", f"{dit.num_heads} heads do not divide embed_dim {dit.embed_dim}")
    head = dit.embed_dim // dit.num_heads
    if max(head // 2, 32) > head:
        _refuse(f"{where}.num_heads", f"heads of {head} channels, supported: at least 32 (the rotary embedding turns 32)")
    if not dit.project_cond_tokens and (dit.cond_token_dim % head or dit.num_heads % (dit.cond_token_dim // head)):
        _refuse(
            f"{where}.cond_token_dim",
            f"{dit.cond_token_dim} does not split into heads of {head} channels shared evenly by {dit.num_heads} query heads",
        )


def _refuse(where: str, problem: str) -> None:
    raise SchemaError(where, problem)
