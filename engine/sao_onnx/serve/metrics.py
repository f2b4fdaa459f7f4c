"""Figures for Prometheus: how many clips, how long they took, how many wait. No prompt is among them."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from sao_onnx.errors import MissingExtraError
from sao_onnx.serve.jobs import Jobs

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

SECONDS = (0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500)


class Metrics:
    """Counters of one server, in a registry of their own.

    Args:
        models: Names, so that the counters are there from the start.

    Raises:
        MissingExtraError: prometheus-client is not installed.
    """

    def __init__(self, models: list[str]) -> None:
        try:
            from prometheus_client import CollectorRegistry, Counter, Histogram
        except ImportError as error:
            raise MissingExtraError("serving metrics", "prometheus-client", "serve") from error
        self._registry: CollectorRegistry = CollectorRegistry()
        labels = ("model", "state")
        self._clips = Counter("sao_onnx_clips", "Clips that ended.", labels, registry=self._registry)
        self._seconds = Histogram(
            "sao_onnx_clip_seconds", "Seconds of work for a clip.", ("model",), buckets=SECONDS, registry=self._registry
        )
        for model in models:
            self._seconds.labels(model)
            for state in ("done", "failed", "cancelled"):
                self._clips.labels(model, state)

    def ended(self, model: str, state: str, seconds: float) -> None:
        """Count a clip that was begun and has ended.

        Args:
            model: Its model.
            state: In which it ended.
            seconds: Of work.
        """
        self._clips.labels(model, state).inc()
        self._seconds.labels(model).observe(seconds)

    def watch(self, jobs: Jobs) -> None:
        """Read the length of the queue whenever the figures are asked for."""
        from prometheus_client import Gauge

        def count(name: str) -> float:
            return jobs.counts()[name]

        about = {"queued": "Clips that wait.", "running": "Clips that are made.", "kept": "Clips that are kept."}
        for name, what in about.items():
            Gauge(f"sao_onnx_{name}", what, registry=self._registry).set_function(functools.partial(count, name))

    def text(self) -> tuple[bytes, str]:
        """The figures in Prometheus' format, and its media type."""
        from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

        return generate_latest(self._registry), CONTENT_TYPE_LATEST
