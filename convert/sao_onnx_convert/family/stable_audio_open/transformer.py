"""The DiT as two ONNX graphs, built node by node from its torch module.

`context` makes the keys and values that the cross-attention of every block reads. They depend on the conditioning alone, so
they are made once for a clip. `dit` runs at every step.

The graphs use ONNX Runtime's own operators, each of which stands for dozens of an exporter's: attention is one
`MultiHeadAttention`, a rotary embedding one `RotaryEmbedding`, and neither needs transposed copies. (`SkipLayerNormalization`
would be one for a sum and the norm behind it, but took four times as long as the two.) The 1×1 convolutions before and after
the blocks are multiplied into the projections beside them. How the matmuls of a block are computed depends on the precision,
and is passed in.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, Protocol, cast

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from sao_onnx_convert.export.builder import MICROSOFT, SLICE_END, Array, GraphBuilder
from sao_onnx_convert.family.stable_audio_open.networks.dit import (
    LAYER_NORM_EPSILON,
    Attention,
    Block,
    DiffusionTransformer,
    FeedForward,
    GatedLinear,
    LayerNorm,
    PositionEmbedding,
    RotaryEmbedding,
)

MatmulName = Literal["qkv", "out", "query", "context", "context_out", "gate", "down"]
"""The matmuls of a block: `qkv` and `out` of the self-attention; `query`, `context` (keys and values) and `context_out` of the
cross-attention; `gate` and `down`, the two Linears of the feed-forward."""


class Matmuls(Protocol):
    """How the matmuls of a block are computed."""

    def __call__(self, graph: GraphBuilder, x: str, matrices: Sequence[Array], name: MatmulName) -> list[str]:
        """Multiply one value by several constant matrices.

        Args:
            graph: Gets the nodes.
            x: Name of the value, [b, n, inputs].
            matrices: [inputs, outputs] each.
            name: Which of a block's matmuls it is.

        Returns:
            Names of the results, [b, n, outputs] each.
        """


class GatedMatmuls(Protocol):
    """How the two matmuls of a feed-forward and the gate between them are computed together."""

    def __call__(self, graph: GraphBuilder, x: str, gate: Sequence[Array], biases: Sequence[Array], down: Array) -> str | None:
        """Add the nodes.

        Args:
            graph: Gets the nodes.
            x: Name of the value, [b, n, inputs].
            gate: Matrices of the value and of the gate, [inputs, width] each.
            biases: Of both, [width] each.
            down: Matrix [width, outputs].

        Returns:
            Name of the result, [b, n, outputs]; None where they have to be computed one by one.
        """


def one_by_one(graph: GraphBuilder, x: str, gate: Sequence[Array], biases: Sequence[Array], down: Array) -> str | None:
    """`GatedMatmuls` that leaves them to `Matmuls`."""
    return None


def float_matmuls(graph: GraphBuilder, x: str, matrices: Sequence[Array], name: MatmulName | None = None) -> list[str]:
    """`Matmuls` in single precision."""
    return [graph.node("MatMul", x, graph.constant(matrix)) for matrix in matrices]


def context_graph(dit: DiffusionTransformer, matmuls: Matmuls = float_matmuls) -> onnx.ModelProto:
    """The graph from conditioning tokens [b, tokens, width] to keys and values, [blocks, b, tokens, heads × head width] each.

    Args:
        dit: The module.
        matmuls: How the matmuls of its blocks are computed.
    """
    graph, width = GraphBuilder(), cast(nn.Linear, dit.to_cond_embed[0]).in_features
    hidden = _mlp(graph, "cross_attention", dit.to_cond_embed)
    outer = graph.constant(np.array([0], np.int64))
    keys, values = [], []
    for block in _blocks(dit):
        attention = block.cross_attn
        key, value = matmuls(graph, hidden, _split_weight(attention.to_kv, 2), "context")
        key = _head_norm(graph, key, attention.k_norm, attention.context_heads)
        keys.append(graph.node("Unsqueeze", _repeated(graph, key, attention), outer))
        values.append(graph.node("Unsqueeze", _repeated(graph, value, attention), outer))
    graph.node("Concat", *keys, output="keys", axis=0)
    graph.node("Concat", *values, output="values", axis=0)
    tokens, context = ("batch", "tokens", width), (len(keys), "batch", "tokens", _width(dit))
    shapes = {"cross_attention": tokens, "keys": context, "values": context}
    return graph.model("context", ["cross_attention"], ["keys", "values"], shapes)


def dit_graph(
    dit: DiffusionTransformer, window: int, matmuls: Matmuls = float_matmuls, gated: GatedMatmuls = one_by_one
) -> onnx.ModelProto:
    """The graph from noisy latents, times, keys, values and the global condition to a velocity.

    Args:
        dit: The module.
        window: Latents of the longest clip.
        matmuls: How the matmuls of its blocks are computed.
        gated: How those of a feed-forward are, where they can be computed together.
    """
    graph, transformer, blocks = GraphBuilder(), dit.transformer, _blocks(dit)
    one = graph.constant(np.array([1], np.int64))
    frequencies = 2 * math.pi * dit.timestep_features.weight.detach().T
    (angle,) = float_matmuls(graph, graph.node("Unsqueeze", "times", one), [frequencies.contiguous().numpy()])
    features = graph.node("Concat", graph.node("Cos", angle), graph.node("Sin", angle), axis=1)
    token = graph.node(
        "Add", _mlp(graph, "global_condition", dit.to_global_embed), _mlp(graph, features, dit.to_timestep_embed)
    )
    # `x + conv(x)` and the projection after it are one matrix; so are the last projection and `y + conv(y)` after it.
    project_in = transformer.project_in.weight.detach().double() @ _with_skip(dit.preprocess_conv)
    project_out = _with_skip(dit.postprocess_conv) @ transformer.project_out.weight.detach().double()
    (frames,) = float_matmuls(graph, graph.node("Transpose", "latents", perm=[0, 2, 1]), [project_in.T.float().numpy()])
    x = graph.node("Concat", graph.node("Unsqueeze", token, one), frames, axis=1)
    if transformer.pos_emb is not None:
        x = _with_positions(graph, x, transformer.pos_emb, window + 1)
    rotate = _Rotation(graph, transformer.rotary_pos_emb, window + 1)
    add_block = _BlockBuilder(graph, rotate, matmuls, gated)
    for i, block in enumerate(blocks):
        x = add_block(x, block, i)
    frames = graph.node("Slice", x, one, graph.constant(np.array([SLICE_END], np.int64)), one)
    (velocity,) = float_matmuls(graph, frames, [project_out.T.float().numpy()])
    graph.node("Transpose", velocity, output="velocity", perm=[0, 2, 1])
    signal = ("batch", dit.preprocess_conv.in_channels, "frames")
    context = (len(blocks), "batch", "tokens", _width(dit))
    first = cast(nn.Linear, dit.to_global_embed[0])
    shapes: dict[str, tuple[int | str, ...]] = {
        "latents": signal,
        "times": ("batch",),
        "keys": context,
        "values": context,
        "global_condition": ("batch", first.in_features),
        "velocity": signal,
    }
    return graph.model("dit", list(shapes)[:-1], ["velocity"], shapes)


def _blocks(dit: DiffusionTransformer) -> list[Block]:
    return [cast(Block, block) for block in dit.transformer.layers]


def _width(dit: DiffusionTransformer) -> int:
    return dit.transformer.project_in.out_features


def _with_positions(graph: GraphBuilder, x: str, embedding: PositionEmbedding, length: int) -> str:
    """Tokens [b, n, width] plus the learned embedding of their position."""
    table = embedding(torch.zeros(1, length, embedding.emb.embedding_dim)).detach().numpy()
    first, count = graph.constant(np.zeros(1, np.int64)), graph.node("Shape", x, start=1, end=2)
    return graph.node("Add", x, graph.node("Slice", graph.constant(table), first, count, first))


class _Rotation:
    """The rotary position embedding of queries and keys, [b, n, heads × head width]."""

    def __init__(self, graph: GraphBuilder, embedding: RotaryEmbedding, length: int) -> None:
        angles = embedding(torch.zeros(1, length, 1))[:, : embedding.inv_freq.numel()]
        self._graph = graph
        self._width = 2 * angles.shape[1]
        first = graph.constant(np.zeros(1, np.int64))
        self._tables = (first, graph.constant(angles.cos().numpy()), graph.constant(angles.sin().numpy()))

    def __call__(self, x: str, heads: int, head_width: int) -> str:
        # The operator wants `rotary_embedding_dim` only where a part of each head is rotated.
        part = {"rotary_embedding_dim": self._width, "num_heads": heads} if self._width < head_width else {"num_heads": heads}
        return self._graph.node("RotaryEmbedding", x, *self._tables, domain=MICROSOFT, **part)


class _BlockBuilder:
    """Adds transformer blocks to a graph: what each part gives for the normalised tokens is added to the tokens."""

    def __init__(self, graph: GraphBuilder, rotate: _Rotation, matmuls: Matmuls, gated: GatedMatmuls) -> None:
        self._graph = graph
        self._rotate = rotate
        self._matmuls = matmuls
        self._gated = gated

    def __call__(self, x: str, block: Block, index: int) -> str:
        x = self._add(x, self._self_attention(_layer_norm(self._graph, x, block.pre_norm), block.self_attn))
        x = self._add(x, self._cross_attention(_layer_norm(self._graph, x, block.cross_attend_norm), block.cross_attn, index))
        return self._add(x, self._feed_forward(_layer_norm(self._graph, x, block.ff_norm), block.ff))

    def _add(self, x: str, y: str) -> str:
        return self._graph.node("Add", x, y)

    def _self_attention(self, x: str, attention: Attention) -> str:
        query, key, value = self._matmuls(self._graph, x, _split_weight(attention.to_qkv, 3), "qkv")
        width = attention.to_out.in_features // attention.heads
        query = self._rotate(_head_norm(self._graph, query, attention.q_norm, attention.heads), attention.heads, width)
        key = self._rotate(_head_norm(self._graph, key, attention.k_norm, attention.heads), attention.heads, width)
        return self._attend(query, key, value, attention, "out")

    def _cross_attention(self, x: str, attention: Attention, index: int) -> str:
        (query,) = self._matmuls(self._graph, x, _split_weight(attention.to_q, 1), "query")
        query = _head_norm(self._graph, query, attention.q_norm, attention.heads)
        block = self._graph.constant(np.array(index, np.int64))
        key, value = (self._graph.node("Gather", name, block, axis=0) for name in ("keys", "values"))
        return self._attend(query, key, value, attention, "context_out")

    def _attend(self, query: str, key: str, value: str, attention: Attention, name: MatmulName) -> str:
        heads = attention.heads
        attended = self._graph.node("MultiHeadAttention", query, key, value, domain=MICROSOFT, num_heads=heads)
        (out,) = self._matmuls(self._graph, attended, _split_weight(attention.to_out, 1), name)
        return out

    def _feed_forward(self, x: str, feed_forward: FeedForward) -> str:
        gated, _, down = cast(tuple[GatedLinear, nn.Identity, nn.Linear], tuple(feed_forward.ff))
        matrices, biases = _split_weight(gated.proj, 2), gated.proj.bias.detach().chunk(2)
        (matrix,) = _split_weight(down, 1)
        out = self._gated(self._graph, x, matrices, [bias.numpy() for bias in biases], matrix)
        if out is None:
            halves = self._matmuls(self._graph, x, matrices, "gate")
            value, gate = (_biased(self._graph, half, bias) for half, bias in zip(halves, biases, strict=True))
            hidden = self._graph.node("Mul", value, _silu(self._graph, gate))
            (out,) = self._matmuls(self._graph, hidden, [matrix], "down")
        return _biased(self._graph, out, down.bias)


def _layer_norm(graph: GraphBuilder, x: str, norm: LayerNorm) -> str:
    scale, bias = graph.constant(norm.gamma.detach().numpy()), graph.constant(norm.beta.numpy())
    return graph.node("LayerNormalization", x, scale, bias, epsilon=LAYER_NORM_EPSILON)


def _head_norm(graph: GraphBuilder, x: str, norm: nn.Module, heads: int) -> str:
    """Layer normalisation of each head of [b, n, heads × head width], if the model has it."""
    if not isinstance(norm, nn.LayerNorm):
        return x
    apart = graph.node("Reshape", x, graph.constant(np.array([0, 0, heads, -1], np.int64)))
    scale, bias = (graph.constant(parameter.detach().numpy()) for parameter in (norm.weight, norm.bias))
    normed = graph.node("LayerNormalization", apart, scale, bias, epsilon=norm.eps)
    return graph.node("Reshape", normed, graph.constant(np.array([0, 0, -1], np.int64)))


def _repeated(graph: GraphBuilder, x: str, attention: Attention) -> str:
    """Keys or values [b, tokens, context heads × head width], each head repeated for the query heads that share it."""
    if attention.context_heads == attention.heads:
        return x
    shared = attention.heads // attention.context_heads
    apart = graph.node("Reshape", x, graph.constant(np.array([0, 0, attention.context_heads, -1], np.int64)))
    order = graph.constant(np.arange(attention.context_heads).repeat(shared))
    return graph.node("Reshape", graph.node("Gather", apart, order, axis=2), graph.constant(np.array([0, 0, -1], np.int64)))


def _mlp(graph: GraphBuilder, x: str, layers: nn.Sequential) -> str:
    """Linear, SiLU, Linear, in single precision."""
    first, _, second = cast(tuple[nn.Linear, nn.SiLU, nn.Linear], tuple(layers))
    return _linear(graph, _silu(graph, _linear(graph, x, first)), second)


def _linear(graph: GraphBuilder, x: str, linear: nn.Linear) -> str:
    (y,) = float_matmuls(graph, x, _split_weight(linear, 1))
    return y if linear.bias is None else _biased(graph, y, linear.bias)


def _biased(graph: GraphBuilder, x: str, bias: Tensor) -> str:
    return graph.node("Add", x, graph.constant(bias.detach().numpy()))


def _silu(graph: GraphBuilder, x: str) -> str:
    return graph.node("QuickGelu", x, domain=MICROSOFT, alpha=1.0)


def _split_weight(linear: nn.Linear, count: int) -> list[Array]:
    """The weight of a Linear as matrices [inputs, outputs / count], which divide its outputs."""
    return [part.T.contiguous().numpy() for part in linear.weight.detach().chunk(count)]


def _with_skip(conv: nn.Conv1d) -> Tensor:
    """The matrix of `x + conv(x)` for a convolution of one tap, float64 [channels, channels]."""
    weight = conv.weight.detach().double()[:, :, 0]
    return weight + torch.eye(len(weight), dtype=torch.float64)
