"""`sao-onnx doctor`: what this machine has, and whether a bundle would fit."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from sao_onnx.cli.options import MODEL_VARIABLE, Json
from sao_onnx.cli.terminal import megabytes


def doctor(
    model: Annotated[
        Path | None, typer.Option("--model", "-m", envvar=MODEL_VARIABLE, help="Bundle that shall fit.", show_default=False)
    ] = None,
    as_json: Json = False,
) -> None:
    """Show the machine, its ONNX Runtime, and whether a bundle would fit."""
    import platform

    import onnxruntime

    from sao_onnx import __version__
    from sao_onnx.bundle import open_bundle
    from sao_onnx.machine import FEATURES, describe_machine
    from sao_onnx.memory import estimate_peak
    from sao_onnx.sessions import default_threads
    from sao_onnx.tuning import saved_tuning

    machine = describe_machine()
    report = {
        "sao_onnx": __version__,
        "python": platform.python_version(),
        "onnxruntime": onnxruntime.__version__,
        "build": onnxruntime.get_build_info(),
        "providers": onnxruntime.get_available_providers(),
        "threads": default_threads(),
        **vars(machine),
    }
    if model is not None:
        bundle = open_bundle(model)
        needs = {precision: estimate_peak(bundle, precision) for precision in bundle.manifest.precisions}
        tuning = saved_tuning(bundle)
        report["bundle"] = {
            "path": str(model),
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
    print(f"threads       {report['threads']}")
    print(f"memory        {megabytes(machine.available)} available of {megabytes(machine.memory)}")
    print(f"ONNX Runtime  {onnxruntime.__version__}, {', '.join(onnxruntime.get_available_providers())}")
    print(f"              {report['build']}")
    if model is None:
        return
    for precision, need in needs.items():
        if machine.available is None:
            verdict = "the available memory is unknown"
        elif need <= machine.available:
            verdict = "fits"
        else:
            verdict = f"does not fit: {megabytes(need - machine.available)} more are needed"
        print(f"bundle        {bundle.manifest.model.name} in {precision} peaks at about {megabytes(need)}: {verdict}")
    print(f"tuned         {'no: `sao-onnx tune` finds out what is fastest here' if tuning is None else 'yes'}")
