"""`sao-onnx doctor`: this machine, its ONNX Runtime, and whether a bundle fits into its memory."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from sao_onnx.cli.command_options import Json, Model
from sao_onnx.cli.terminal import megabytes, printable


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
    needs = {precision: estimate_peak(bundle, precision) for precision in bundle.manifest.precisions}
    tuning = saved_tuning(bundle)
    report["bundle"] = {
        "path": str(bundle.folder),
        "peak_memory": needs,
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
    print(f"threads       {report['threads']}")
    print(f"memory        {megabytes(machine.available)} available of {megabytes(machine.memory)}")
    print(f"ONNX Runtime  {report['onnxruntime']}, {', '.join(report['providers'])}")
    print(f"              {report['build']}")
    print(f"telemetry     {report['telemetry']}")
    name = printable(bundle.manifest.model.name)
    for precision, need in needs.items():
        if machine.reachable is None:
            verdict = "the available memory is unknown"
        elif need <= machine.reachable:
            verdict = "fits"
        else:
            verdict = f"does not fit: {megabytes(need - machine.reachable)} more are needed"
        print(f"bundle        {name} in {precision} peaks at about {megabytes(need)}: {verdict}")
    print(f"tuned         {'no: `sao-onnx tune` finds out what is fastest here' if tuning is None else 'yes'}")
