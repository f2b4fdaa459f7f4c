"""A bundle on its way to machines that do not have it."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sao_onnx.bundle.bundle import Bundle
from sao_onnx.bundle.manifest_json import MANIFEST
from sao_onnx.locks import lock
from sao_onnx.places import user_path


@dataclass(frozen=True)
class SentBundle:
    """A bundle in Ray's store of objects, which sends each file once to each machine that asks for it.

    Attributes:
        files: References to their bytes, by their paths in the bundle.
    """

    files: Mapping[str, Any]

    @classmethod
    def of(cls, bundle: Bundle, put: Callable[[Any], Any]) -> SentBundle:
        """Put a bundle there.

        Args:
            bundle: The bundle.
            put: Takes an array, and returns the reference to it.
        """
        names = [MANIFEST, *(file.path for file in bundle.manifest.files)]
        return cls({name: put(np.fromfile(bundle.path(name), np.uint8)) for name in names})

    def unpacked(self, fingerprint: str) -> Path:
        """The folder of the bundle on this machine: in the user's cache, where it stays.

        Args:
            fingerprint: Of the bundle.

        Raises:
            FileError: The user has no cache.
            OSError: It cannot be written.
        """
        import ray

        bundles = user_path("cache") / "bundles"
        folder, partial = bundles / fingerprint, bundles / f"{fingerprint}.partial"
        bundles.mkdir(parents=True, exist_ok=True)
        with _alone(bundles / f"{fingerprint}.lock"):
            if not folder.is_dir():
                shutil.rmtree(partial, ignore_errors=True)
                for name, reference in self.files.items():
                    path = partial / name
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(ray.get(reference).data)
                partial.rename(folder)
        return folder


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Wait until no other actor of this machine is in such a block."""
    with path.open("w") as stream:
        lock(stream.fileno(), wait=True)
        yield
