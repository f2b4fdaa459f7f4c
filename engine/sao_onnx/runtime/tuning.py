"""Tunings: the settings with which a bundle runs fastest on a machine. Each is kept in a small file of the user's."""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from sao_onnx.bundle.bundle import Bundle
from sao_onnx.bundle.manifest import Precision
from sao_onnx.bundle.schema import read
from sao_onnx.errors import FileError
from sao_onnx.places import user_path
from sao_onnx.reading import parse_json, read_small
from sao_onnx.runtime.machine import describe_machine
from sao_onnx.runtime.processor import usable_threads
from sao_onnx.writing import require_free, write_whole

logger = logging.getLogger(__name__)


LARGEST = 10_000
"""Bytes of the largest file that is read."""

MOST = 1024
"""The most threads, workers, and latents in a tile."""

TRIED_OPTIONS = ("session.intra_op.allow_spinning", "mlas.disable_kleidiai")
"""Session configuration entries that a search for a tuning tries; each is "0" or "1"."""


@dataclass(frozen=True)
class Tuning:
    """Settings that change how fast a model runs.

    Attributes:
        threads: Threads of each run of a graph over a whole clip.
        workers: Tiles that the decoder runs at the same time, with one thread each.
        tiles: Latents in a tile, for each of the decoder's graphs but the first.
        dit: Precision of the DiT.
        decoder: Precision of the decoder.
        options: Session configuration entries of ONNX Runtime.
    """

    threads: int
    workers: int
    tiles: tuple[int, ...]
    dit: Precision
    decoder: Precision
    options: dict[str, str] = field(default_factory=dict)


def default_tuning(bundle: Bundle, precision: Precision, threads: int) -> Tuning:
    """Settings that are good on most machines.

    Args:
        bundle: The model. Its manifest has the tiles.
        precision: Precision of DiT and decoder.
        threads: Threads, and workers.
    """
    tiles = tuple(segment.tile for segment in bundle.manifest.decoder[1:])
    return Tuning(threads, threads, tiles, precision, precision)


def saved_tuning(bundle: Bundle) -> Tuning | None:
    """The tuning that `save_tuning` kept for this bundle on this machine.

    Returns:
        The tuning; None if there is none, or if its file cannot be used: because it is damaged, was written by another release,
        or names a precision that the bundle lacks. That is no error, because a tuning only makes clips faster; it is logged.
    """
    try:
        path = tuning_path(bundle)
    except FileError as error:  # There is no home folder to keep it in.
        logger.info("there is no saved tuning: %s", error)
        return None
    try:
        tuning = read(Tuning, parse_json(read_small(path, LARGEST).decode("utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:  # SchemaError is a ValueError.
        logger.info("the saved tuning %s cannot be used: %s", path, error)
        return None
    problem = tuning_problem(tuning, bundle)
    if unknown := [key for key, value in tuning.options.items() if key not in TRIED_OPTIONS or value not in ("0", "1")]:
        problem = f"no search tries the option {unknown[0]!r:.80}"
    if problem:
        logger.info("the saved tuning %s cannot be used: %s", path, problem)
        return None
    logger.debug("using the saved tuning %s: %s", path, tuning)
    return tuning


def tuning_problem(tuning: Tuning, bundle: Bundle) -> str:
    """Why a bundle cannot be run with a tuning; "" if it can."""
    wanted = len(bundle.manifest.decoder) - 1
    if len(tuning.tiles) != wanted:
        return f"it has {len(tuning.tiles)} tiles, expected {wanted}"
    if missing := {tuning.dit, tuning.decoder} - set(bundle.manifest.precisions):
        return f"the bundle does not have {', '.join(sorted(missing))}"
    numbers = (tuning.threads, tuning.workers, *tuning.tiles)
    if min(numbers) < 1 or max(numbers) > MOST:
        return f"its threads, workers and tiles must be at least 1 and at most {MOST}"
    return ""


def within_processors(tuning: Tuning) -> Tuning:
    """A tuning with no more threads and workers than there are processors; a warning tells of what was lowered."""
    most = usable_threads(max(tuning.threads, tuning.workers))
    return replace(tuning, threads=min(tuning.threads, most), workers=min(tuning.workers, most))


def require_savable(bundle: Bundle) -> None:
    """Check, before work begins, that a tuning for this bundle can be kept; its folder is made.

    Raises:
        FileError: It cannot be.
    """
    path = tuning_path(bundle)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"{path} cannot be written: {error.strerror or error}") from error
    require_free(path, True)


def save_tuning(bundle: Bundle, tuning: Tuning) -> Path:
    """Keep a tuning for this bundle on this machine. From then on `sao_onnx.load` uses it.

    Returns:
        The file in which it is kept.

    Raises:
        FileError: The file cannot be written.
    """
    require_savable(bundle)
    path = tuning_path(bundle)
    write_whole(path, f"{json.dumps(asdict(tuning), indent=1)}\n".encode(), overwrite=True)
    return path


def reset_tuning(bundle: Bundle) -> bool:
    """Remove the tuning that was kept for this bundle on this machine.

    Returns:
        Whether there was one.

    Raises:
        FileError: It cannot be removed.
    """
    path = tuning_path(bundle)
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise FileError(f"{path} cannot be removed: {error.strerror or error}") from error
    return True


def tuning_path(bundle: Bundle) -> Path:
    """The file for the tuning of this bundle on this machine. It need not exist.

    Copies of a bundle share the file, because its name has the bundle's fingerprint. The other half of the name stands for the
    processor: another one, or another number of cores, has another file.

    Raises:
        FileError: The user has no home folder, and no variable names another one.
    """
    machine = describe_machine()
    processor = json.dumps([machine.architecture, machine.processor, machine.cores, machine.features])
    names = (bundle.fingerprint, hashlib.sha256(processor.encode()).hexdigest()[:12])
    return user_path("state") / "tuning" / ("-".join(names) + ".json")
