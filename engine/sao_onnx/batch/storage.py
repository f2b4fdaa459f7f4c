"""A place for the clips of a list that is no folder: whatever fsspec writes to."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from sao_onnx.errors import FileError, MissingExtraError, OutputExistsError
from sao_onnx.request import Request

ATOMIC = {"memory", "s3", "s3a", "gs", "gcs"}
"""File systems in which a file appears whole, and which can refuse to replace one while they write it."""


def local_path(address: str) -> Path | None:
    """The folder of this machine that an address means, as file:///clips does; None for any other.

    Raises:
        MissingExtraError: fsspec is not installed.
        FileError: fsspec does not know such places, or lacks what it needs for them.
    """
    system, root = _opened(address)
    return Path(root) if {"file", "local"} & set(_protocols(system)) else None


def _opened(address: str) -> tuple[Any, str]:
    """Fsspec's file system of an address, and the path in it."""
    try:
        from fsspec.core import url_to_fs
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"writing to {address}", "fsspec", "storage") from error
    try:
        system, path = url_to_fs(address)
    except ImportError as error:
        raise FileError(f"{address} cannot be used: {error}") from error
    except Exception as error:
        raise FileError(f"{address} cannot be used: {_reason(error)}; expected a folder, or as in s3://bucket/clips") from error
    return system, str(path)


def _protocols(system: Any) -> tuple[str, ...]:
    return (system.protocol,) if isinstance(system.protocol, str) else tuple(system.protocol)


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


class Storage:
    """A place of fsspec's; see `Place`. Each machine finds the way, and who may use it, in its own configuration of fsspec.

    Args:
        address: As in s3://bucket/clips.
    """

    def __init__(self, address: str) -> None:
        self._address = address.rstrip("/") if not address.endswith("//") else address

    def __reduce__(self) -> tuple[Any, ...]:
        return Storage, (self._address,)

    @cached_property
    def _system(self) -> tuple[Any, str]:
        return _opened(self._address)

    @contextlib.contextmanager
    def _reaching(self, name: str) -> Iterator[tuple[Any, str]]:
        """The file system and the path of a file in it; whatever goes wrong there becomes an error of ours."""
        system, root = self._system
        try:
            yield system, f"{root.rstrip('/')}/{name}" if name else root
        except FileError:
            raise
        except FileExistsError as error:
            raise self._exists(name) from error
        except Exception as error:  # Every file system has errors of its own.
            raise FileError(f"{self.path(name)} cannot be used: {_reason(error)}") from error

    def path(self, name: str) -> str:
        """A file as it is told to people and programs."""
        return f"{self._address}{'' if self._address.endswith('/') else '/'}{name}"

    def make(self) -> None:
        """Make the place where the file system has folders.

        Raises:
            FileError: It cannot be made, or nobody answers.
        """
        with self._reaching("") as (system, root):
            system.makedirs(root, exist_ok=True)

    def is_there(self, name: str) -> bool:
        """Whether there is a file of a name."""
        with self._reaching(name) as (system, path):
            system.invalidate_cache()
            return bool(system.exists(path))

    def require_free(self, name: str, overwrite: bool) -> None:
        """Check, before work begins, that a file has its name for itself. Whether it can be written shows when it is.

        Raises:
            OutputExistsError: It exists and `overwrite` is false.
            FileError: It is a folder, or nobody answers.
        """
        if not self.is_there(name):
            return
        with self._reaching(name) as (system, path):
            if system.isdir(path):
                raise FileError(f"{self.path(name)} is a folder; give a file name")
        if not overwrite:
            raise self._exists(name)

    def require_own(self, name: str, request: Request) -> None:
        """Nothing: clips start from files of this machine, and there are no links."""

    def write(self, name: str, data: bytes, overwrite: bool) -> None:
        """Write a file so that others see all of its bytes or no file.

        Raises:
            OutputExistsError: It exists and `overwrite` is false.
            FileError: It cannot be written.
        """
        with self._reaching(name) as (system, path):
            if ATOMIC & set(_protocols(system)):
                system.pipe_file(path, data, mode="overwrite" if overwrite else "create")
                return
            if not overwrite and self.is_there(name):
                raise self._exists(name)
            partial = str(PurePosixPath(path).with_name(f".sao-onnx-{os.urandom(8).hex()}.partial"))
            try:
                system.pipe_file(partial, data)
                system.mv(partial, path)
            except BaseException:
                with contextlib.suppress(Exception):
                    system.rm(partial)
                raise

    @contextlib.contextmanager
    def reading(self, name: str) -> Iterator[Path]:
        """A copy of the file on this machine, for as long as the block lasts."""
        with tempfile.TemporaryDirectory(prefix="sao-onnx-") as folder:
            copy = Path(folder) / name
            with self._reaching(name) as (system, path):
                copy.write_bytes(system.cat_file(path))
            yield copy

    def is_usable(self) -> bool:
        """Whether it answers."""
        try:
            self.is_there("")
        except FileError:
            return False
        return True

    def tidy(self) -> None:
        """Nothing: what others are writing looks the same as what killed programs left."""

    def _exists(self, name: str) -> OutputExistsError:
        return OutputExistsError(f"{self.path(name)} exists; choose another name, or allow it to be replaced (--force)")
