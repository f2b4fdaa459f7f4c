"""The diffusion transformer: noisy latents, a time and conditioning to a velocity.

Computes what `DiffusionTransformer` and `ContinuousTransformer` of stable-audio-tools 0.0.19 compute for the options that
the released model uses.
"""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sao_onnx_convert.source.config_fields import DiTConfig

TIMESTEP_FEATURES = 256

LAYER_NORM_EPSILON = 1e-5
"""Of the norms of the blocks; those of queries and keys have their own."""


class FourierFeatures(nn.Module):
    """A time [b, 1] to `[cos 2πtw, sin 2πtw]`, [b, 256], with learned frequencies w."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(features // 2, 1))

    def forward(self, t: Tensor) -> Tensor:
        angle = 2 * math.pi * t @ self.weight.T
        return torch.cat([angle.cos(), angle.sin()], dim=-1)


def rotary_frequencies(dim: int) -> Tensor:
    """Angular frequencies of a rotary embedding of `dim` channels, in radians for each position, [dim / 2]."""
    return 10000.0 ** -(torch.arange(0, dim, 2).float() / dim)


class RotaryEmbedding(nn.Module):
    """Angles of the rotary position embedding, [n, 2 × frequencies]. Su et al., "RoFormer" (2021), base 10000."""

    inv_freq: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("inv_freq", rotary_frequencies(dim))

    def forward(self, x: Tensor) -> Tensor:
        positions = torch.arange(x.shape[1], device=x.device, dtype=torch.float32)
        angles = positions[:, None] * self.inv_freq
        return torch.cat([angles, angles], dim=-1)


class PositionEmbedding(nn.Module):
    """A learned embedding of each position, [n, dim] (`AbsolutePositionalEmbedding` of stable-audio-tools)."""

    def __init__(self, dim: int, longest: int) -> None:
        super().__init__()
        self.emb = nn.Embedding(longest, dim)

    def forward(self, x: Tensor) -> Tensor:
        positions: Tensor = self.emb.weight[: x.shape[1]] * x.shape[2] ** -0.5
        return positions


def rotate(x: Tensor, angles: Tensor) -> Tensor:
    """Rotate the first r channels of every head of x [b, heads, n, d] by angles [n, r], r ≤ d; the others stay as they are."""
    width = angles.shape[-1]
    rotated, others = x[..., :width], x[..., width:]
    first, second = rotated.chunk(2, dim=-1)
    rotated = rotated * angles.cos() + torch.cat([-second, first], dim=-1) * angles.sin()
    return torch.cat([rotated, others], dim=-1)


class LayerNorm(nn.Module):
    """Layer normalisation with a learned gamma and a stored beta."""

    beta: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(dim))
        self.register_buffer("beta", torch.zeros(dim))

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.gamma.shape, self.gamma, self.beta, LAYER_NORM_EPSILON)


class Attention(nn.Module):
    """Multi-head attention over the tokens themselves, or over a context.

    A context may have fewer heads than the queries; each of them then serves several query heads.
    """

    def __init__(self, dim: int, head_dim: int, context_dim: int | None, qk_norm: bool) -> None:
        super().__init__()
        self.heads = dim // head_dim
        self.context_heads = self.heads if context_dim is None else context_dim // head_dim
        if context_dim is None:
            self.to_qkv = nn.Linear(dim, 3 * dim, bias=False)
        else:
            self.to_q = nn.Linear(dim, dim, bias=False)
            self.to_kv = nn.Linear(context_dim, 2 * context_dim, bias=False)
        self.to_out = nn.Linear(dim, dim, bias=False)
        self.q_norm = nn.LayerNorm(head_dim, eps=1e-6) if qk_norm else nn.Identity()
        self.k_norm = nn.LayerNorm(head_dim, eps=1e-6) if qk_norm else nn.Identity()

    def over_itself(self, x: Tensor, angles: Tensor) -> Tensor:
        """Self-attention of x [b, n, dim]."""
        q, k, v = self.to_qkv(x).chunk(3, dim=-1)
        q = rotate(self.q_norm(_split(q, self.heads)), angles)
        k = rotate(self.k_norm(_split(k, self.heads)), angles)
        return self._attend(q, k, _split(v, self.heads))

    def keys_and_values(self, context: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of a context [b, tokens, context dim] for all query heads, [b, tokens, dim] each."""
        k, v = self.to_kv(context).chunk(2, dim=-1)
        k, v = self.k_norm(_split(k, self.context_heads)), _split(v, self.context_heads)
        shared = self.heads // self.context_heads
        return _join(k.repeat_interleave(shared, dim=1)), _join(v.repeat_interleave(shared, dim=1))

    def over_context(self, x: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Cross-attention of x [b, n, dim]."""
        q = self.q_norm(_split(self.to_q(x), self.heads))
        return self._attend(q, _split(keys, self.heads), _split(values, self.heads))

    def _attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        y: Tensor = self.to_out(_join(F.scaled_dot_product_attention(q, k, v)))
        return y


def _split(x: Tensor, heads: int) -> Tensor:
    b, n, dim = x.shape
    return x.reshape(b, n, heads, dim // heads).transpose(1, 2)


def _join(x: Tensor) -> Tensor:
    return x.transpose(1, 2).flatten(2)


class GatedLinear(nn.Module):
    """One Linear to twice the width; the first half times SiLU of the second. Shazeer, "GLU Variants" (2020)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.proj = nn.Linear(inputs, 2 * outputs)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.proj(x).chunk(2, dim=-1)
        y: Tensor = value * F.silu(gate)
        return y


class FeedForward(nn.Module):
    """Gated feed-forward of four times the width."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        # The identity stands for a dropout, so that the second Linear is called `ff.2` as in the checkpoint.
        self.ff = nn.Sequential(GatedLinear(dim, 4 * dim), nn.Identity(), nn.Linear(4 * dim, dim))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.ff(x)
        return y


class Block(nn.Module):
    """Self-attention, cross-attention and feed-forward, each over normalised tokens and added to the tokens."""

    def __init__(self, dim: int, head_dim: int, context_dim: int, qk_norm: bool) -> None:
        super().__init__()
        self.pre_norm = LayerNorm(dim)
        self.self_attn = Attention(dim, head_dim, None, qk_norm)
        self.cross_attend_norm = LayerNorm(dim)
        self.cross_attn = Attention(dim, head_dim, context_dim, qk_norm)
        self.ff_norm = LayerNorm(dim)
        self.ff = FeedForward(dim)

    def forward(self, x: Tensor, keys: Tensor, values: Tensor, angles: Tensor) -> Tensor:
        x = x + self.self_attn.over_itself(self.pre_norm(x), angles)
        x = x + self.cross_attn.over_context(self.cross_attend_norm(x), keys, values)
        y: Tensor = x + self.ff(self.ff_norm(x))
        return y


class Transformer(nn.Module):
    """Input projection, prepended token, blocks, output projection."""

    def __init__(self, config: DiTConfig, context_dim: int) -> None:
        super().__init__()
        head_dim = config.embed_dim // config.num_heads
        self.project_in = nn.Linear(config.io_channels, config.embed_dim, bias=False)
        self.project_out = nn.Linear(config.embed_dim, config.io_channels, bias=False)
        self.rotary_pos_emb = RotaryEmbedding(max(head_dim // 2, 32))
        self.pos_emb = PositionEmbedding(config.embed_dim, config.abs_pos_emb_max_length) if config.use_abs_pos_emb else None
        self.layers = nn.ModuleList(
            Block(config.embed_dim, head_dim, context_dim, config.attn_kwargs.qk_norm == "ln") for _ in range(config.depth)
        )

    def forward(self, x: Tensor, prepended: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        x = torch.cat([prepended, self.project_in(x)], dim=1)
        angles = self.rotary_pos_emb(x)
        if self.pos_emb is not None:
            x = x + self.pos_emb(x)
        for layer, k, v in zip(self.layers, keys, values, strict=True):
            x = layer(x, k, v, angles)
        y: Tensor = self.project_out(x)
        return y


class DiffusionTransformer(nn.Module):
    """Velocity [b, channels, n] of noisy latents [b, channels, n] at times [b]."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        dim = config.embed_dim
        context_dim = dim if config.project_cond_tokens else config.cond_token_dim
        self.timestep_features = FourierFeatures(TIMESTEP_FEATURES)
        self.to_timestep_embed = nn.Sequential(nn.Linear(TIMESTEP_FEATURES, dim), nn.SiLU(), nn.Linear(dim, dim))
        self.to_cond_embed = _projection(config.cond_token_dim, context_dim)
        self.to_global_embed = _projection(config.global_cond_dim, dim)
        self.transformer = Transformer(config, context_dim)
        self.preprocess_conv = nn.Conv1d(config.io_channels, config.io_channels, 1, bias=False)
        self.postprocess_conv = nn.Conv1d(config.io_channels, config.io_channels, 1, bias=False)

    def forward(self, x: Tensor, t: Tensor, cross_attention: Tensor, global_condition: Tensor) -> Tensor:
        """Velocity at `x`.

        Args:
            x: Noisy latents, [b, channels, n].
            t: Times (noise levels) in [0, 1], [b].
            cross_attention: Conditioning tokens, [b, tokens, cond_token_dim].
            global_condition: [b, global_cond_dim].
        """
        return self.velocity(x, t, *self.context(cross_attention), global_condition)

    def context(self, cross_attention: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of every block's cross-attention, each [blocks, b, tokens, dim]."""
        context = self.to_cond_embed(cross_attention)
        pairs = [cast(Block, layer).cross_attn.keys_and_values(context) for layer in self.transformer.layers]
        keys, values = zip(*pairs, strict=True)
        return torch.stack(keys), torch.stack(values)

    def velocity(self, x: Tensor, t: Tensor, keys: Tensor, values: Tensor, global_condition: Tensor) -> Tensor:
        """What `forward` computes, given the keys and values that `context` computes from the tokens."""
        time = self.to_timestep_embed(self.timestep_features(t[:, None]))
        prepended = (self.to_global_embed(global_condition) + time)[:, None]
        x = x + self.preprocess_conv(x)
        y = self.transformer(x.transpose(1, 2), prepended, keys, values).transpose(1, 2)[:, :, 1:]
        velocity: Tensor = y + self.postprocess_conv(y)
        return velocity


def _projection(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, outputs, bias=False), nn.SiLU(), nn.Linear(outputs, outputs, bias=False))
