"""`model_config.json` as frozen dataclasses, one for each object of the file.

The reference (stable-audio-tools) reads the file in two ways, and so do these classes:

- An object called `config` is handed to the constructor of a network or conditioner. Every field of it may decide what is
  computed, so each must be known here, and one that is not is refused by name. Defaults are the constructor's. A `Literal`
  lists the supported values.
- From every other object the reference reads some fields by name, and ignores the rest. The classes of these say
  `SKIPS_UNKNOWN`: unknown fields are skipped and reported. A field that only training reads is known, and may have any value.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, cast

from sao_onnx.bundle.manifest import ObjectiveName


@dataclass(frozen=True)
class OobleckEncoderConfig:
    in_channels: int = 2
    channels: int = 128
    c_mults: tuple[int, ...] = (1, 2, 4, 8)
    strides: tuple[int, ...] = (2, 4, 8, 8)
    latent_dim: int = 32
    use_snake: Literal[True, False] = False
    antialias_activation: Literal[False] = False


@dataclass(frozen=True)
class OobleckDecoderConfig:
    out_channels: int = 2
    channels: int = 128
    c_mults: tuple[int, ...] = (1, 2, 4, 8)
    strides: tuple[int, ...] = (2, 4, 8, 8)
    latent_dim: int = 32
    use_snake: Literal[True, False] = False
    antialias_activation: Literal[False] = False
    use_nearest_upsample: Literal[False] = False
    final_tanh: bool = True


@dataclass(frozen=True)
class EncoderConfig:
    SKIPS_UNKNOWN: ClassVar[bool] = True

    type: Literal["oobleck"]
    config: OobleckEncoderConfig
    requires_grad: Any = True


@dataclass(frozen=True)
class DecoderConfig:
    SKIPS_UNKNOWN: ClassVar[bool] = True

    type: Literal["oobleck"]
    config: OobleckDecoderConfig
    soft_clip: Literal[False] | None = False
    requires_grad: Any = True


@dataclass(frozen=True)
class BottleneckConfig:
    SKIPS_UNKNOWN: ClassVar[bool] = True

    type: Literal["vae"]
    requires_grad: Any = True
    # The reference reads no options of this type of bottleneck.
    config: Any = None


@dataclass(frozen=True)
class AutoencoderConfig:
    SKIPS_UNKNOWN: ClassVar[bool] = True

    encoder: EncoderConfig
    decoder: DecoderConfig
    bottleneck: BottleneckConfig
    latent_dim: int
    downsampling_ratio: int
    io_channels: int
    in_channels: int | None = None
    out_channels: int | None = None
    pretransform: None = None


@dataclass(frozen=True)
class PretransformConfig:
    SKIPS_UNKNOWN: ClassVar[bool] = True

    type: Literal["autoencoder"]
    config: AutoencoderConfig
    scale: float = 1.0
    # These change how the reference computes, and not what: the converter widens half-precision weights anyway.
    model_half: bool = False
    iterate_batch: bool = False
    chunked: bool = False
    enable_grad: Any = False


@dataclass(frozen=True)
class T5Options:
    t5_model_name: str = "t5-base"
    max_length: int = 128
    enable_grad: bool = False
    project_out: bool = False
    output_dim: int | None = None


@dataclass(frozen=True)
class NumberOptions:
    min_val: float = 0.0
    max_val: float = 1.0
    output_dim: int | None = None


@dataclass(frozen=True)
class T5ConditionerConfig:
    SKIPS_UNKNOWN: ClassVar[bool] = True

    id: str
    type: Literal["t5"]
    config: T5Options


@dataclass(frozen=True)
class NumberConditionerConfig:
    SKIPS_UNKNOWN: ClassVar[bool] = True

    id: str
    type: Literal["number"]
    config: NumberOptions


@dataclass(frozen=True)
class ConditioningConfig:
    SKIPS_UNKNOWN: ClassVar[bool] = True

    configs: tuple[T5ConditionerConfig | NumberConditionerConfig, ...]
    cond_dim: int
    # Other names under which the reference accepts a value. The engine has a value for every conditioner anyway.
    default_keys: Any = None
    pre_encoded_keys: tuple[str, ...] = ()


@dataclass(frozen=True)
class AttentionConfig:
    qk_norm: Literal["ln", "none"] = "none"
    differential: Literal[False] = False
    feat_scale: Literal[False] = False


@dataclass(frozen=True)
class FeedForwardConfig:
    mult: float = 4.0
    no_bias: Literal[False] = False
    glu: Literal[True] = True
    use_conv: Literal[False] = False
    conv_kernel_size: int = 3
    dim_out: None = None


@dataclass(frozen=True)
class NormConfig:
    bias: Literal[False] = False
    fix_scale: bool = False
    force_fp32: bool = False
    eps: float = 1e-5


@dataclass(frozen=True)
class DiTConfig:
    io_channels: int = 32
    patch_size: Literal[1] = 1
    embed_dim: int = 768
    cond_token_dim: int = 0
    project_cond_tokens: bool = True
    global_cond_dim: int = 0
    project_global_cond: Literal[True] = True
    input_concat_dim: Literal[0] = 0
    prepend_cond_dim: Literal[0] = 0
    depth: int = 12
    num_heads: int = 8
    transformer_type: Literal["continuous_transformer"] = "continuous_transformer"
    global_cond_type: Literal["prepend"] = "prepend"
    timestep_cond_type: Literal["global"] = "global"
    # With a global timestep condition its width is embed_dim, whatever is given here.
    timestep_embed_dim: int | None = None
    # Of the transformer.
    final_cross_attn_ix: Literal[-1] = -1
    causal: Literal[False] = False
    rotary_pos_emb: Literal[True] = True
    conformer: Literal[False] = False
    use_sinusoidal_emb: Literal[False] = False
    use_abs_pos_emb: bool = False
    abs_pos_emb_max_length: int = 10_000
    num_memory_tokens: Literal[0] = 0
    sliding_window: None = None
    # Initial weights only.
    zero_init_branch_outputs: bool = True
    # Of its blocks.
    remove_norms: Literal[False] = False
    add_rope: Literal[False] = False
    layer_scale: Literal[False] = False
    attn_kwargs: AttentionConfig = AttentionConfig()
    ff_kwargs: FeedForwardConfig = FeedForwardConfig()
    norm_kwargs: NormConfig = NormConfig()


@dataclass(frozen=True)
class DiffusionConfig:
    SKIPS_UNKNOWN: ClassVar[bool] = True

    type: Literal["dit"]
    config: DiTConfig
    diffusion_objective: str = "v"
    cross_attention_cond_ids: tuple[str, ...] = ()
    global_cond_ids: tuple[str, ...] = ()
    input_concat_ids: tuple[str, ...] = ()
    prepend_cond_ids: tuple[str, ...] = ()
    # Passed to the reference's samplers, and read there only where they make their own sigmas. `sample_rf` hands Euler,
    # DPM-Solver++ and ping-pong sigmas that are not shifted, so it has no effect on a generation with them.
    distribution_shift_options: dict[str, Any] | None = None
    # Read by later versions of the reference only, which then compute something else.
    sampling_distribution_shift_options: None = None
    local_add_cond_ids: tuple[str, ...] = ()
    modular_local_cond_configs: tuple[Any, ...] = ()
    mask_padding_attention: Literal[False] = False
    use_effective_length_for_schedule: Literal[False] = False


@dataclass(frozen=True)
class NetworksConfig:
    SKIPS_UNKNOWN: ClassVar[bool] = True

    pretransform: PretransformConfig
    conditioning: ConditioningConfig
    diffusion: DiffusionConfig
    io_channels: int


@dataclass(frozen=True)
class ModelConfig:
    """The configuration of a checkpoint.

    Attributes:
        sample_size: Longest clip in audio frames, as the file has it; see `window`.
        sample_rate: In hertz.
        audio_channels: Channels of the training audio, if the file says so; see `channels`.
    """

    SKIPS_UNKNOWN: ClassVar[bool] = True

    model_type: Literal["diffusion_cond"]
    sample_size: int
    sample_rate: int
    model: NetworksConfig
    audio_channels: int | None = None
    training: Any = None
    lora: Any = None

    @property
    def objective(self) -> ObjectiveName:
        """What the model was trained to predict. `check` has refused all others."""
        return cast(ObjectiveName, self.model.diffusion.diffusion_objective)

    @property
    def channels(self) -> int:
        """Channels of the audio."""
        return self.model.pretransform.config.io_channels

    @property
    def window(self) -> int:
        """Latents of the longest clip. Frames of `sample_size` that do not fill a latent are dropped, as in the reference."""
        return self.sample_size // self.model.pretransform.config.downsampling_ratio

    @property
    def window_frames(self) -> int:
        """Audio frames of the longest clip, a multiple of the downsampling ratio."""
        return self.window * self.model.pretransform.config.downsampling_ratio

    @property
    def prompt(self) -> T5ConditionerConfig:
        """The one text conditioner."""
        return next(part for part in self.model.conditioning.configs if isinstance(part, T5ConditionerConfig))

    @property
    def numbers(self) -> tuple[NumberConditionerConfig, ...]:
        """The number conditioners, in the order of the file."""
        return tuple(part for part in self.model.conditioning.configs if isinstance(part, NumberConditionerConfig))
