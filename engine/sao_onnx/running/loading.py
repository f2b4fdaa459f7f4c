"""Opens the stages of the engine from a bundle. The graphs of a stage are opened at the same time: opening takes one core."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from sao_onnx.bundle.bundle import Bundle
from sao_onnx.bundle.manifest import Precision, Role, StageName
from sao_onnx.bundle.signatures import frames_ratio
from sao_onnx.running.together import together
from sao_onnx.runtime.sessions import GraphSession, SessionFactory
from sao_onnx.runtime.tuning import Tuning
from sao_onnx.stages.autoencoder import Decoder, Encoder
from sao_onnx.stages.conditioning import Conditioner
from sao_onnx.stages.denoiser import Denoiser
from sao_onnx.stages.tokenizer import Tokenizer


def load_conditioner(bundle: Bundle, precision: Precision, factory: SessionFactory) -> Conditioner:
    """Open the tokenizer, the text encoder and the number conditioner.

    Args:
        bundle: The model.
        precision: Precision of the graphs.
        factory: Opens the sessions.

    Raises:
        BundleError: A graph or the tokenizer cannot be loaded.
        NotEnoughMemoryError: A graph does not fit into memory.
    """
    config = bundle.manifest.conditioning
    with bundle.opening(bundle.stage_files("conditioner", precision)):
        tokenizer = Tokenizer(bundle.path(bundle.manifest.tokenizer), config.prompt)
        text_encoder, number_conditioner = _graphs(bundle, "conditioner", precision, factory)
    return Conditioner(config, tokenizer, text_encoder, number_conditioner)


def load_denoiser(bundle: Bundle, precision: Precision, factory: SessionFactory) -> Denoiser:
    """Open the DiT, and the graph that computes the keys and values of its cross-attention.

    Arguments and errors are those of `load_conditioner`.
    """
    with bundle.opening(bundle.stage_files("denoiser", precision)):
        context, dit = _graphs(bundle, "denoiser", precision, factory)
    return Denoiser(context, dit)


def load_decoder(bundle: Bundle, tuning: Tuning, factory: SessionFactory) -> Decoder:
    """Open the decoder with the precision, the tiles and the workers of a tuning. Errors are those of `load_conditioner`."""
    manifest = bundle.manifest
    first, *others = manifest.decoder
    segments = [first, *(replace(segment, tile=tile) for segment, tile in zip(others, tuning.tiles, strict=True))]
    whole, *tiled = manifest.stage_roles("decoder")
    with bundle.opening(bundle.stage_files("decoder", tuning.decoder)):
        opening = partial(_graph, bundle, precision=tuning.decoder, factory=factory)
        graphs = together([partial(opening, role=whole), *(partial(opening, role=role, tiled=True) for role in tiled)])
    return Decoder(segments, manifest.latents.ratio, graphs, tuning.workers)


def load_encoder(bundle: Bundle, precision: Precision, factory: SessionFactory) -> Encoder:
    """Open the autoencoder's encoder. Arguments and errors are those of `load_conditioner`."""
    with bundle.opening(bundle.stage_files("encoder", precision)):
        (graph,) = _graphs(bundle, "encoder", precision, factory)
    return Encoder(graph, bundle.manifest.latents)


def _graphs(bundle: Bundle, stage: StageName, precision: Precision, factory: SessionFactory) -> list[GraphSession]:
    roles = bundle.manifest.stage_roles(stage)
    return together([partial(_graph, bundle, role, precision, factory) for role in roles])


def _graph(bundle: Bundle, role: Role, precision: Precision, factory: SessionFactory, *, tiled: bool = False) -> GraphSession:
    graph = bundle.manifest.graph(role, precision)
    frames = frames_ratio(bundle.manifest, role)
    return GraphSession(factory, bundle.path(graph.path), graph, tiled=tiled, frames=frames)
