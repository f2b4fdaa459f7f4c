"""How a bundle runs best on a machine, and where that is kept: one small file for each pair of bundle and machine."""

from __future__ import annotations

import contextlib
import hashlib
import json
import secrets
from dataclasses import asdict, dataclass, field
from pathlib import Path

import platformdirs

from sao_onnx.bundle.bundle import Bundle
from sao_onnx.bundle.manifest import Precision
from sao_onnx.bundle.schema import SchemaError, read
from sao_onnx.errors import SaoOnnxError
from sao_onnx.runtime.machine import describe_machine


@dataclass(frozen=True)
class Tuning:
    """How the parts of a model are run.

    Attributes:
        threads: Threads of a run over a whole clip.
        workers: Decoder tiles that run at the same time, one thread each.
        tiles: Latents in a tile, for each of the decoder's stages but the first.
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
    """What is good on most machines."""
    tiles = tuple(stage.tile for stage in bundle.manifest.decoder[1:])
    return Tuning(threads, threads, tiles, precision, precision)


def saved_tuning(bundle: Bundle) -> Tuning | None:
    """What `save_tuning` kept for this bundle on this machine.

    None as well where the file cannot be used: damaged, of another release, or naming a precision that the bundle lacks. It
    only makes things faster, so nothing is worth failing for.
    """
    try:
        tuning = read(Tuning, json.loads(tuning_path(bundle).read_text(encoding="utf-8")))
    except (OSError, ValueError, SchemaError):
        return None
    held = bundle.manifest.precisions
    fits = len(tuning.tiles) == len(bundle.manifest.decoder) - 1 and {tuning.dit, tuning.decoder} <= set(held)
    return tuning if fits and min(tuning.threads, tuning.workers, *tuning.tiles) >= 1 else None


def save_tuning(bundle: Bundle, tuning: Tuning) -> Path:
    """Keep a tuning for this bundle on this machine; `sao_onnx.load` uses it from then on.

    Returns:
        The file.

    Raises:
        SaoOnnxError: It cannot be written.
    """
    path = tuning_path(bundle)
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(json.dumps(asdict(tuning), indent=1) + "\n", encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        raise SaoOnnxError(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
    return path


def reset_tuning(bundle: Bundle) -> bool:
    """Forget what was kept for this bundle on this machine; whether there was anything."""
    path = tuning_path(bundle)
    existed = path.exists()
    path.unlink(missing_ok=True)
    return existed


def tuning_path(bundle: Bundle) -> Path:
    """The file for this bundle on this machine. A bundle is known by its manifest, so a copy of it is the same one."""
    machine = describe_machine()
    this = json.dumps([machine.architecture, machine.processor, machine.cores, machine.features])
    names = (bundle.fingerprint, hashlib.sha256(this.encode()).hexdigest()[:12])
    return platformdirs.user_state_path("sao-onnx") / "tuning" / ("-".join(names) + ".json")
