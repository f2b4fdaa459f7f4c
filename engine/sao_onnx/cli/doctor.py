"""`sao-onnx doctor`: this machine, its ONNX Runtime, and whether a bundle fits into its memory."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from sao_onnx.cli.command_options import Json, Model
from sao_onnx.cli.streams import printable
from sao_onnx.cli.terminal import megabytes

if TYPE_CHECKING:
    from sao_onnx.runtime.memory import Way

WAYS: dict[str, Way] = {
    "one clip": {},
    "--preview": {"preview": True},
    "--init-audio": {"encoder": True},
    "--count": {"keep_loaded": True},
    "--jobs 2": {"keep_loaded": True, "jobs": 2},
    "--jobs 4": {"keep_loaded": True, "jobs": 4},
}
"""Ways to run a bundle that differ in the memory that they take."""


def doctor(
    model: Model = None,
    as_json: Json = False,
) -> None:
    """Show this machine, its ONNX Runtime, and whether a bundle fits into its memory."""
    import platform

    from sao_onnx.bundle.bundle import open_bundle
    from sao_onnx.bundle.names import find
    from sao_onnx.runtime.machine import describe_machine, int8_matmul_instructions
    from sao_onnx.runtime.memory import estimate_peak
    from sao_onnx.runtime.native_operators import operators_of
    from sao_onnx.runtime.processor import FEATURES
    from sao_onnx.runtime.sessions import int8_matmul_overflows, runtime
    from sao_onnx.runtime.tuning import saved_tuning
    from sao_onnx.version import __version__

    machine = describe_machine()
    report: dict[str, Any] = {
        "sao_onnx": __version__,
        "python": platform.python_version(),
        **runtime(),
        "threads": machine.cores,
        **vars(machine),
        "int8_products": int8_matmul_instructions(machine, int8_matmul_overflows()),
        "int8_weights": "unsigned" if int8_matmul_overflows() else "signed",
    }
    bundle = open_bundle(find(model))
    report["native_operators"] = operators_of(bundle)
    needs = {
        precision: {name: estimate_peak(bundle, precision, **way) for name, way in WAYS.items()}
        for precision in bundle.manifest.precisions
    }
    tuning = saved_tuning(bundle)
    report["bundle"] = {
        "path": str(bundle.folder),
        "peak_memory": {precision: need["one clip"] for precision, need in needs.items()},
        "peak_memory_of": needs,
        "tuning": None if tuning is None else asdict(tuning),
    }
    if as_json:
        print(json.dumps(report))
        return
    relevant = FEATURES.get(machine.architecture, ())
    if machine.features is None:
        features = "unknown"
    else:
        features = ", ".join(f"{name} {'yes' if name in machine.features else 'no'}" for name in relevant)
    print(f"sao-onnx      {__version__} on Python {report['python']}")
    print(f"machine       {machine.processor}, {machine.architecture}, {machine.system}")
    print(f"features      {features}")
    print(f"8 bits        {report['int8_products'] or 'unknown'}")
    print(f"operators     {report['native_operators']}")
    print(f"threads       {report['threads']}")
    print(f"memory        {megabytes(machine.available)} available of {megabytes(machine.memory)}")
    print(f"ONNX Runtime  {report['onnxruntime']}, {', '.join(report['providers'])}")
    print(f"              {report['build']}")
    print(f"telemetry     {report['telemetry']}")
    print(f"bundle        {printable(bundle.manifest.model.name)}; at its peak it takes about")
    for name in WAYS:
        columns = (f"{precision} {_fits(need[name], machine.reachable)}" for precision, need in needs.items())
        print(f"  {name:<14}{'   '.join(columns)}")
    if bundle.manifest.latents.margin is None:
        print("older         converted again, the bundle would encode initial audio with a third of the memory")
    print(f"tuned         {'no: `sao-onnx tune` finds out what is fastest here' if tuning is None else 'yes'}")


def _fits(need: int, reachable: int | None) -> str:
    """How much memory is needed, and whether there is as much."""
    if reachable is None:
        return f"{megabytes(need)} (the available memory is unknown)"
    if need <= reachable:
        return f"{megabytes(need)} (fits)"
    return f"{megabytes(need)} (does not fit: {megabytes(need - reachable)} more are needed)"
