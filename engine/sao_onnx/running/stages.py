"""The stages of a model, each loaded when it is first needed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TypeVar

from sao_onnx.bundle.bundle import Bundle
from sao_onnx.bundle.manifest import Precision
from sao_onnx.running.clock import Clock
from sao_onnx.running.lazy import Lazy
from sao_onnx.running.loading import load_conditioner, load_decoder, load_denoiser, load_encoder
from sao_onnx.runtime.sessions import SessionFactory
from sao_onnx.runtime.tuning import Tuning

T = TypeVar("T")


class Stages:
    """Text encoder with number conditioners, denoiser, decoder, encoder.

    Args:
        bundle: Where their graphs are.
        precision: Of the stages that `tuning` does not name.
        tuning: Precisions of denoiser and decoder, tiles.
        factory: Opens their sessions.
        keep_loaded: Keep each stage for the next clip; otherwise it is let go after use.
    """

    def __init__(
        self, bundle: Bundle, precision: Precision, tuning: Tuning, factory: SessionFactory, *, keep_loaded: bool
    ) -> None:
        self.conditioner = Lazy(lambda: load_conditioner(bundle, precision, factory), keep_loaded)
        self.denoiser = Lazy(lambda: load_denoiser(bundle, tuning.dit, factory), keep_loaded)
        self.decoder = Lazy(lambda: load_decoder(bundle, tuning, factory), keep_loaded)
        self.encoder = Lazy(lambda: load_encoder(bundle, precision, factory), keep_loaded)

    def unload(self) -> None:
        """Let go of every stage, of those in use when their last user leaves."""
        for stage in (self.conditioner, self.denoiser, self.decoder, self.encoder):
            stage.unload()


@contextlib.contextmanager
def timed(stage: Lazy[T], clock: Clock) -> Iterator[T]:
    """Use a stage; the time that it takes to load counts as loading."""
    with contextlib.ExitStack() as stack:
        with clock("load"):
            value = stack.enter_context(stage.use())
        yield value
