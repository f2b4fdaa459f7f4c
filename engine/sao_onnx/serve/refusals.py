"""Why the queue takes no job."""

from __future__ import annotations

import math

from sao_onnx.errors import SaoOnnxError


class QueueFullError(SaoOnnxError):
    """No more clips can wait.

    Attributes:
        retry_after: Whole seconds until there is probably a place, at least 1.
    """

    def __init__(self, waiting: int, seconds: float) -> None:
        # Not rounded down, or who comes back in time would come too early.
        self.retry_after = max(1, math.ceil(seconds))
        super().__init__(f"{waiting} clips are waiting, and no more can; try again in {self.retry_after} s")


class EndingError(SaoOnnxError):
    """The server is ending, and makes no more clips."""

    def __init__(self) -> None:
        super().__init__("the server is ending and makes no more clips; try again when it has been started anew")
