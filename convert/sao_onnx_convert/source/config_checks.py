"""Checks of a configuration beyond the types of its fields: is the family supported, and do the fields agree?"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn, get_args

from torch import nn

from sao_onnx.bundle.manifest import ObjectiveName
from sao_onnx.bundle.schema import SchemaError
from sao_onnx_convert.source.config_fields import DiTConfig, ModelConfig, T5ConditionerConfig
from sao_onnx_convert.source.t5_names import is_path, is_t5

OBJECTIVE = "model.diffusion.diffusion_objective"
PRETRANSFORM = "model.pretransform.config"
DIT = "model.diffusion.config"
CONDITIONERS = "model.conditioning.configs"

OBJECTIVES: tuple[str, ...] = get_args(ObjectiveName)
EXPECTED_OBJECTIVES = " or ".join(map(repr, OBJECTIVES))

LARGEST = 1 << 16
"""The largest size in a network that is accepted, so that a mistake in the file does not ask for more memory than there is."""

LONGEST = 1 << 18
"""The longest window that is accepted, in latents."""


def check_family(data: Mapping[str, Any]) -> None:
    """Refuse other families of models. This comes first, before their options are refused as unknown.

    Args:
        data: The decoded file; nothing in it has been checked yet.

    Raises:
        SchemaError: It is a model with the objective `v`, as Stable Audio Open 1.0, or has a text encoder that is not a T5.
    """
    networks = data.get("model")
    if data.get("model_type") == "autoencoder":
        _refuse(
            "model_type",
            "found 'autoencoder', expected 'diffusion_cond': this describes an autoencoder alone; "
            "give the configuration of a whole model with --config, and that model with --base",
        )
    if data.get("model_type") != "diffusion_cond" or not isinstance(networks, Mapping):
        return
    diffusion = networks.get("diffusion")
    if isinstance(diffusion, Mapping) and diffusion.get("diffusion_objective", "v") == "v":
        found = "found 'v'" if "diffusion_objective" in diffusion else "not given, which means 'v'"
        _refuse(
            OBJECTIVE,
            f"{found}, expected {EXPECTED_OBJECTIVES}; Stable Audio Open 1.0 and models made from it are not supported, "
            "only Stable Audio Open Small and models made from it",
        )
    conditioning = networks.get("conditioning")
    configs = conditioning.get("configs") if isinstance(conditioning, Mapping) else None
    for index, part in enumerate(configs if isinstance(configs, list) else ()):
        options = part.get("config") if isinstance(part, Mapping) and part.get("type") == "t5" else None
        name = options.get("t5_model_name") if isinstance(options, Mapping) else None
        if isinstance(name, str) and not is_t5(name) and not is_path(name):
            _refuse(
                f"{CONDITIONERS}[{index}].config.t5_model_name",
                f"found {name!r}, expected a T5 such as 't5-base'; other text encoders are not supported",
            )


def check(config: ModelConfig) -> None:
    """Refuse a configuration that is not supported or contradicts itself.

    Raises:
        SchemaError: Says which field it is, what was found and what was expected.
    """
    if (found := config.model.diffusion.diffusion_objective) not in OBJECTIVES:
        _refuse(OBJECTIVE, f"found {found!r}, expected {EXPECTED_OBJECTIVES}")
    _check_sizes(config)
    _check_conditioning(config)
    _check_autoencoder(config)
    _check_agreement(config)
    _check_dit(config.model.diffusion.config)
    _check_window(config)


def _check_sizes(config: ModelConfig) -> None:
    autoencoder, dit = config.model.pretransform.config, config.model.diffusion.config
    encoder, decoder = autoencoder.encoder.config, autoencoder.decoder.config
    for where, part in ((f"{PRETRANSFORM}.encoder.config", encoder), (f"{PRETRANSFORM}.decoder.config", decoder)):
        _positive(f"{where}.strides", part.strides)
        _positive(f"{where}.c_mults", part.c_mults)
        _positive(f"{where}.channels", (part.channels * max(part.c_mults, default=1), part.channels))
        _positive(f"{where}.latent_dim", (part.latent_dim,))
        if not part.strides or len(part.strides) > 16:
            _refuse(f"{where}.strides", f"found {len(part.strides)}, expected at least one stride and at most 16")
        if len(part.c_mults) != len(part.strides):
            _refuse(f"{where}.c_mults", f"found {len(part.c_mults)} multipliers for {len(part.strides)} strides")
    _positive(f"{PRETRANSFORM}.latent_dim", (autoencoder.latent_dim,))
    _positive(f"{PRETRANSFORM}.io_channels", (autoencoder.io_channels,), largest=64)
    _positive("model.conditioning.cond_dim", (config.model.conditioning.cond_dim,))
    for name in ("embed_dim", "num_heads", "cond_token_dim", "global_cond_dim"):
        _positive(f"{DIT}.{name}", (getattr(dit, name),))
    _positive(f"{DIT}.depth", (dit.depth,), largest=1024)
    _positive(f"{DIT}.abs_pos_emb_max_length", (dit.abs_pos_emb_max_length,), largest=LONGEST)


def _positive(where: str, values: Iterable[int], largest: int = LARGEST) -> None:
    for value in values:
        if not 1 <= value <= largest:
            _refuse(where, f"found {value}, sizes must be positive and at most {largest}")


def _check_conditioning(config: ModelConfig) -> None:
    _check_conditioners(config)
    _check_condition_ids(config)
    conditioning, diffusion = config.model.conditioning, config.model.diffusion
    for name in ("input_concat_ids", "prepend_cond_ids", "local_add_cond_ids", "modular_local_cond_configs"):
        if found := getattr(diffusion, name):
            _refuse(
                f"model.diffusion.{name}", f"found {list(found)}, supported: none; this kind of conditioning is not computed"
            )
    if conditioning.pre_encoded_keys:
        _refuse(
            "model.conditioning.pre_encoded_keys",
            f"found {list(conditioning.pre_encoded_keys)}, supported: none; conditioners take text and numbers, not embeddings",
        )


def _check_conditioners(config: ModelConfig) -> None:
    """The list of conditioners, and the options of each."""
    conditioning = config.model.conditioning
    ids = [part.id for part in conditioning.configs]
    prompts = sum(isinstance(part, T5ConditionerConfig) for part in conditioning.configs)
    if prompts != 1:
        _refuse(CONDITIONERS, f"found {prompts} conditioners of type 't5', supported: exactly one")
    if len(set(ids)) != len(ids):
        _refuse(CONDITIONERS, f"an id occurs twice: {', '.join(ids)}")
    for id in ids:
        # An id becomes a part of tensor names.
        if not id.isprintable() or not id.strip() or "." in id or "/" in id or hasattr(nn.ModuleDict(), id):
            _refuse(CONDITIONERS, f"{id!r} cannot be the id of a conditioner")
    for index, part in enumerate(conditioning.configs):
        if part.config.output_dim not in (None, conditioning.cond_dim):
            _refuse(
                f"{CONDITIONERS}[{index}].config.output_dim",
                f"found {part.config.output_dim}, expected the cond_dim {conditioning.cond_dim}",
            )
    for number in config.numbers:
        if number.config.max_val <= number.config.min_val:
            _refuse(CONDITIONERS, f"{number.id!r}: max_val must exceed min_val")
    if not 1 <= config.prompt.config.max_length <= LARGEST:
        _refuse(
            CONDITIONERS,
            f"found max_length {config.prompt.config.max_length}; max_length must be positive and at most {LARGEST}",
        )


def _check_condition_ids(config: ModelConfig) -> None:
    """Which conditioners the cross-attention and the global condition read."""
    diffusion, prompt = config.model.diffusion, config.prompt.id
    ids = [part.id for part in config.model.conditioning.configs]
    if prompt not in diffusion.cross_attention_cond_ids:
        _refuse("model.diffusion.cross_attention_cond_ids", f"the text conditioner {prompt!r} is missing")
    if not diffusion.global_cond_ids:
        _refuse("model.diffusion.global_cond_ids", "found none, supported: at least one number conditioner")
    for name in ("cross_attention_cond_ids", "global_cond_ids"):
        for id in getattr(diffusion, name):
            if id not in ids:
                _refuse(f"model.diffusion.{name}", f"{id!r} is not among the conditioners {', '.join(ids)}")
    if prompt in diffusion.global_cond_ids:
        _refuse("model.diffusion.global_cond_ids", f"{prompt!r} is text, supported: number conditioners")


def _check_autoencoder(config: ModelConfig) -> None:
    autoencoder = config.model.pretransform.config
    for name in ("encoder", "decoder"):
        where, part = f"{PRETRANSFORM}.{name}.config", getattr(autoencoder, name).config
        if math.prod(part.strides) != autoencoder.downsampling_ratio:
            _refuse(
                f"{where}.strides",
                f"their product {math.prod(part.strides)} is not the downsampling_ratio {autoencoder.downsampling_ratio}",
            )
        if not part.use_snake:
            _refuse(f"{where}.use_snake", "found False, expected True (False is the reference's default where it is not given)")
    if config.model.pretransform.scale != 1.0:
        _refuse("model.pretransform.scale", f"found {config.model.pretransform.scale}, supported: 1.0")


def _check_agreement(config: ModelConfig) -> None:
    """Sizes that must agree with others."""
    networks = config.model
    autoencoder, conditioning, diffusion = networks.pretransform.config, networks.conditioning, networks.diffusion
    encoder, decoder, dit = autoencoder.encoder.config, autoencoder.decoder.config, diffusion.config
    expected_encoder = 2 * autoencoder.latent_dim  # A mean and a scale for each.
    channels = autoencoder.io_channels
    for name, found, expected in (
        (f"{PRETRANSFORM}.encoder.config.latent_dim", encoder.latent_dim, expected_encoder),
        (f"{PRETRANSFORM}.decoder.config.latent_dim", decoder.latent_dim, autoencoder.latent_dim),
        (f"{PRETRANSFORM}.encoder.config.in_channels", encoder.in_channels, channels),
        (f"{PRETRANSFORM}.decoder.config.out_channels", decoder.out_channels, channels),
        (f"{PRETRANSFORM}.in_channels", autoencoder.in_channels or channels, channels),
        (f"{PRETRANSFORM}.out_channels", autoencoder.out_channels or channels, channels),
        ("audio_channels", channels if config.audio_channels is None else config.audio_channels, channels),
        ("model.io_channels", networks.io_channels, autoencoder.latent_dim),
        (f"{DIT}.io_channels", dit.io_channels, autoencoder.latent_dim),
        (f"{DIT}.cond_token_dim", dit.cond_token_dim, conditioning.cond_dim),
        (f"{DIT}.global_cond_dim", dit.global_cond_dim, conditioning.cond_dim * len(diffusion.global_cond_ids)),
    ):
        if found != expected:
            _refuse(name, f"found {found}, expected {expected} from the rest of the configuration")


def _check_dit(dit: DiTConfig) -> None:
    if dit.embed_dim % dit.num_heads:
        _refuse(f"{DIT}.num_heads", f"{dit.num_heads} heads do not divide embed_dim {dit.embed_dim}")
    head = dit.embed_dim // dit.num_heads
    if max(head // 2, 32) > head:
        _refuse(f"{DIT}.num_heads", f"heads of {head} channels, supported: at least 32 (the rotary embedding turns 32)")
    if not dit.project_cond_tokens and (dit.cond_token_dim % head or dit.num_heads % (dit.cond_token_dim // head)):
        _refuse(
            f"{DIT}.cond_token_dim",
            f"{dit.cond_token_dim} does not split into heads of {head} channels shared evenly by {dit.num_heads} query heads",
        )
    if dit.ff_kwargs.mult != 4:
        _refuse(f"{DIT}.ff_kwargs.mult", f"found {dit.ff_kwargs.mult}, expected 4")
    if dit.norm_kwargs.eps != 1e-5:
        _refuse(f"{DIT}.norm_kwargs.eps", f"found {dit.norm_kwargs.eps}, expected 1e-05")


def _check_window(config: ModelConfig) -> None:
    ratio, dit = config.model.pretransform.config.downsampling_ratio, config.model.diffusion.config
    if not 1 <= config.sample_rate <= 10_000_000:
        _refuse("sample_rate", f"found {config.sample_rate}, expected hertz")
    if not ratio <= config.sample_size < (LONGEST + 1) * ratio:
        _refuse(
            "sample_size",
            f"found {config.sample_size}, expected at least one latent of {ratio} frames and at most {LONGEST}",
        )
    tokens = config.window + 1  # One is prepended.
    if dit.use_abs_pos_emb and dit.abs_pos_emb_max_length < tokens:
        _refuse(
            f"{DIT}.abs_pos_emb_max_length",
            f"found {dit.abs_pos_emb_max_length}, expected at least the {tokens} tokens of a window",
        )


def _refuse(where: str, problem: str) -> NoReturn:
    raise SchemaError(where, problem)
