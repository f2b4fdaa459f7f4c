"""Hides warnings and log lines of other libraries, which would disturb the progress of a conversion."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator

LOGGERS = ("huggingface_hub", "torch.onnx", "optimum", "transformers", "onnxscript", "onnx_ir")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hide warnings of other libraries: about absent packages, about deprecations in them, about what is checked here anyway.

    Errors are still logged. Afterwards all loggers are as they were.
    """
    loggers = [logging.getLogger(name) for name in LOGGERS]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
