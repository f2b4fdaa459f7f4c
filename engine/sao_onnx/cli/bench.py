"""`sao-onnx bench`: how fast this machine is, how fast it could be, and what holds it back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sao_onnx.cli.command_options import FILES, Force, Json, Model, Quiet
from sao_onnx.cli.terminal import in_background, megabytes, note, progress_bar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sao_onnx.measuring.measure import Begun
    from sao_onnx.measuring.report import Report


def bench(
    model: Model = None,
    report: Annotated[
        Path | None,
        typer.Option(
            "--report",
            metavar="FILE",
            help="Write all figures as JSON. It holds no names and no paths, and can be sent to us.",
            show_default=False,
            rich_help_panel=FILES,
        ),
    ] = None,
    force: Force = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Measure this machine for about two minutes at most, and tell what makes it slower than it could be."""
    from sao_onnx.bundle.names import find
    from sao_onnx.measuring.advice import advice
    from sao_onnx.writing import write_whole

    file = None if report is None else _writable(report, force)
    measured = _measured(find(model), quiet)
    said = advice(measured)
    result = measured.to_json(said)
    if not as_json:  # Before the file, which may fail: minutes of measuring would be lost.
        _print(measured, said)
    if file is not None:
        write_whole(file, f"{result}\n".encode(), overwrite=force)
    if as_json:
        print(result)
    elif file is not None and not quiet:
        note(f"the figures are in {file}")


def _writable(report: Path, force: bool) -> Path:
    """The file of a report, refused before the work where it could not be written."""
    from sao_onnx.cli.outputs import STDOUT, expanded
    from sao_onnx.writing import require_free

    if report == STDOUT:
        raise typer.BadParameter("- is no file; --json prints the figures", param_hint="--report")
    file = expanded(report)
    require_free(file, force)
    return file


def _measured(folder: Path, quiet: bool) -> Report:
    """Measure with a bundle, and tell which part is measured."""
    from sao_onnx.measuring.measure import PARTS, Begun, measure

    def work(tell: Callable[[Begun | Report], None]) -> None:
        for found in measure(folder):
            tell(found)

    with progress_bar(not quiet) as bar:
        for found in in_background(work):
            if not isinstance(found, Begun):
                return found
            bar.update("measuring", found.index, PARTS)
            if not quiet:
                note(f"measuring {found.part}")
    raise RuntimeError("the measurement ended without a report")


def _print(report: Report, said: Mapping[str, str]) -> None:
    software, hardware, rates, model, clip = report.software, report.hardware, report.rates, report.model, report.clip
    print(f"machine       {hardware.processor}, {hardware.architecture}, {hardware.system}")
    tiles = f"{_counted(model.workers, 'decoder tile')} at a time"
    print(f"threads       {model.threads} on {_counted(hardware.usable, 'processor')}, {tiles}")
    print(f"ONNX Runtime  {software.onnxruntime}; 8 bits: {software.int8_products or 'unknown'}")
    print(f"operators     {software.native_operators}")
    print(f"int8 matmul   {_giga(rates.int8_all)} GOP/s, one thread {_giga(rates.int8_one)}")
    print(f"fp32 matmul   {_giga(rates.fp32_all)} GOP/s, one thread {_giga(rates.fp32_one)}")
    print(f"memory        {_giga(rates.copy)} GB/s; {megabytes(hardware.available)} available")
    print(f"governor      {', '.join(report.settings.governors) or 'unknown'}")
    print(f"temperature   {_heat(report)}")
    for stage in report.stages:
        print(f"{stage.name:<14}{stage.run:.3f} s for {stage.work}, {stage.load:.2f} s to load")
    how = "" if clip.measured else " (added up: there was no time to make one)"
    print(f"clip          {clip.seconds:.2f} s for {model.seconds:.1f} s of audio, {clip.load:.2f} s to load{how}")
    print(f"work          {_giga(model.operations.clip)} GOP a clip, {report.least:.2f} s at the peak of {model.dit} matmuls")
    small = "" if report.telling else " (says little: this model is small)"
    print(f"share         {report.share:.0%} of the peak{small}")
    if not said:
        print("\nNothing is wrong with this machine that the measurement could see.")
    for text in said.values():
        print(f"\n- {text}")


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _giga(value: float) -> str:
    """In 10⁹, three digits."""
    shown = value / 1e9
    return f"{shown:.0f}" if shown >= 100 else f"{shown:.3g}"


def _heat(report: Report) -> str:
    """How warm it was at the beginning, and at its warmest."""
    degrees = [moment.temperature for moment in report.moments if moment.temperature is not None]
    return f"{degrees[0]:.0f} °C before, {max(degrees):.0f} °C at most" if degrees else "unknown"
