"""The engines of a server, by the names of their models."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import cast

from sao_onnx.bundle.bundle import Bundle, open_bundle
from sao_onnx.bundle.manifest import Precision
from sao_onnx.bundle.names import BUILT_IN, default_name, find
from sao_onnx.engine import Engine, load
from sao_onnx.errors import BundleError, RequestError
from sao_onnx.runtime.processor import available_processors
from sao_onnx.serve.settings import Settings


class Models:
    """Bundles that a server offers. Their networks are loaded with the first clip.

    Args:
        settings: Of the server.

    Raises:
        BundleError: A bundle cannot be opened, or two have the same name.
        RequestError: A bundle lacks the precision.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._folders: dict[str, Path] = {}
        self.bundles: dict[str, Bundle] = {}
        for named in settings.models or (None,):
            folder = find(named)
            model = named or default_name() or BUILT_IN
            name = Path(model).name if len(Path(model).parts) > 1 else model
            if self._folders.get(name) == folder:
                continue
            if name in self._folders:
                raise BundleError(f"two bundles are called {name}; rename the folder of one")
            self._folders[name], self.bundles[name] = folder, open_bundle(folder)
            self.bundles[name].precision(cast("Precision | None", settings.precision))  # Refuses one that it lacks.
        self._engines: dict[str, Engine] = {}
        self._lock = threading.Lock()

    @property
    def default(self) -> str:
        """The model of requests that name none."""
        return next(iter(self._folders))

    def bundle(self, name: str) -> Bundle:
        """The bundle of a model.

        Raises:
            RequestError: The server does not offer it.
        """
        if name not in self.bundles:
            raise RequestError(f"there is no model {name!r}; known: {', '.join(self.bundles)}")
        return self.bundles[name]

    def engine(self, name: str) -> Engine:
        """The engine of a model, loaded with its first use.

        Raises:
            RequestError: The server does not offer it.
            BundleError: It cannot be loaded.
        """
        self.bundle(name)
        with self._lock:
            if name not in self._engines:
                settings = self._settings
                total = settings.threads or available_processors()
                threads = max(1, total // settings.jobs) if settings.jobs > 1 or settings.threads else None
                precision = cast("Precision | None", settings.precision)
                self._engines[name] = load(self._folders[name], precision=precision, threads=threads)
            return self._engines[name]

    def unload(self) -> None:
        """Let go of all networks; the next clip loads them again."""
        with self._lock:
            for engine in self._engines.values():
                engine.unload()
