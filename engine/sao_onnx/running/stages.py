"""The stages of a model, each loaded when it is first needed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, TypeVar

from sao_onnx.bundle.bundle import Bundle
from sao_onnx.bundle.manifest import Precision, StageName
from sao_onnx.running.clock import Clock
from sao_onnx.running.lazy import Lazy
from sao_onnx.running.loading import load_conditioner, load_decoder, load_denoiser, load_encoder
from sao_onnx.runtime.memory import fits_ahead
from sao_onnx.runtime.sessions import SessionFactory
from sao_onnx.runtime.system_memory import address_space_is_limited
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
        self._bundle, self._precision, self._tuning = bundle, precision, tuning
        self._keep_loaded = keep_loaded
        self._all: dict[StageName, Lazy[Any]] = {
            "conditioner": self.conditioner,
            "encoder": self.encoder,
            "denoiser": self.denoiser,
            "decoder": self.decoder,
        }
        self._sizes: dict[StageName, int] = {
            "conditioner": bundle.stage_weight("conditioner", precision),
            "encoder": bundle.stage_weight("encoder", precision),
            "denoiser": bundle.stage_weight("denoiser", tuning.dit),
            "decoder": bundle.stage_weight("decoder", tuning.decoder),
        }

    def opens_ahead(self) -> bool:
        """Whether the denoiser is to be opened, and may be while the conditioner is there.

        Of stages that are kept, both will be in memory anyway.
        """
        if self.denoiser.loaded or address_space_is_limited():
            return False
        return self._keep_loaded or fits_ahead(self._bundle, self._precision, self._tuning)

    def loads(self, windows: int) -> list[dict[StageName, int]]:
        """Bytes on disk of the stages that will be loaded in each window, 0 where one is there already."""
        first: dict[StageName, int] = {name: 0 if stage.loaded else self._sizes[name] for name, stage in self._all.items()}
        later = dict.fromkeys(self._sizes, 0) if self._keep_loaded else self._sizes
        return [first, *[later] * (windows - 1)]

    def unload(self) -> None:
        """Let go of every stage, of those in use when their last user leaves."""
        for stage in self._all.values():
            stage.unload()


@contextlib.contextmanager
def timed(stage: Lazy[T], clock: Clock) -> Iterator[T]:
    """Use a stage; the time that it takes to load counts as loading."""
    with contextlib.ExitStack() as stack:
        with clock("load"):
            value = stack.enter_context(stage.use())
        yield value
