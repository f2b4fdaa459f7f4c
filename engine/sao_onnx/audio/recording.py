"""Audio with its sample rate, in whatever class it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from sao_onnx.arrays import Array


class Recording(Protocol):
    """Audio with its sample rate, a `Clip` for example."""

    @property
    def samples(self) -> Array:
        """float32 [channels, frames], where 1 is full scale."""
        ...

    @property
    def sample_rate(self) -> int:
        """In hertz."""
        ...
