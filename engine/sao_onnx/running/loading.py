"""Opens the stages of a bundle."""

from __future__ import annotations

from dataclasses import replace

from sao_onnx.bundle.bundle import Bundle
from sao_onnx.bundle.manifest import Precision, Role
from sao_onnx.runtime.sessions import GraphSession, SessionFactory
from sao_onnx.runtime.tuning import Tuning
from sao_onnx.stages.autoencoder import Decoder, Encoder
from sao_onnx.stages.conditioning import Conditioner
from sao_onnx.stages.denoiser import Denoiser
from sao_onnx.stages.tokenizer import Tokenizer


def load_conditioner(bundle: Bundle, precision: Precision, factory: SessionFactory) -> Conditioner:
    """Tokenizer, text encoder and number conditioner."""
    config = bundle.manifest.conditioning
    tokenizer = Tokenizer(bundle.path(bundle.manifest.tokenizer), config.prompt)
    text_encoder, number_conditioner = (_graph(bundle, role, precision, factory) for role in _CONDITIONER)
    return Conditioner(config, tokenizer, text_encoder, number_conditioner)


def load_denoiser(bundle: Bundle, precision: Precision, factory: SessionFactory) -> Denoiser:
    """The DiT, and the graph of the keys and values for its cross-attention."""
    return Denoiser(_graph(bundle, "context", precision, factory), _graph(bundle, "dit", precision, factory))


def load_decoder(bundle: Bundle, tuning: Tuning, factory: SessionFactory) -> Decoder:
    """The decoder, with the tiles of a tuning."""
    manifest = bundle.manifest
    first, *others = manifest.decoder
    stages = [first, *(replace(stage, tile=tile) for stage, tile in zip(others, tuning.tiles, strict=True))]
    graphs = [_graph(bundle, role, tuning.decoder, factory, tiled=i > 0) for i, role in enumerate(manifest.decoder_roles)]
    return Decoder(stages, manifest.latents.ratio, graphs, tuning.workers)


def load_encoder(bundle: Bundle, precision: Precision, factory: SessionFactory) -> Encoder:
    """The autoencoder's encoder."""
    return Encoder(_graph(bundle, "encoder", precision, factory))


_CONDITIONER: tuple[Role, ...] = ("text_encoder", "number_conditioner")


def _graph(bundle: Bundle, role: Role, precision: Precision, factory: SessionFactory, *, tiled: bool = False) -> GraphSession:
    graph = bundle.manifest.graph(role, precision)
    return GraphSession(factory, bundle.path(graph.path), graph, tiled=tiled)
