"""`sao-onnx convert`: a checkpoint to a bundle. Options and output only; `sao_onnx_convert` does the work."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import typer

from sao_onnx.cli import convert_options as c
from sao_onnx.cli.command_options import Force, Json, Quiet, Verbose
from sao_onnx.cli.signals import end_interrupted
from sao_onnx.cli.terminal import FAILED, closeness, in_background, megabytes, note, progress_bar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from sao_onnx.bundle.bundle import Bundle
    from sao_onnx_convert import Progress


def convert(
    checkpoint: c.Checkpoint,
    output: c.Output,
    t5: c.T5 = None,
    precision: c.Precisions = None,
    config_name: c.Configuration = None,
    weights_name: c.Weights = None,
    base: c.Base = None,
    ema: c.Ema = True,
    lora: c.Loras = None,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    force: Force = False,
) -> None:
    """Convert a checkpoint to a bundle. Needs the extra: pip install 'sao-onnx[convert]'."""
    _require_precisions(precision or ())
    _require_converter()
    from sao_onnx_convert import convert as run
    from sao_onnx_convert.bundle.staging import abandon

    loras = _read_loras(lora or ())

    def tell(text: str) -> None:
        if not quiet:
            note(f"note: {text}")

    def work(report: Callable[[Progress | Bundle], None]) -> None:
        report(
            run(
                checkpoint,
                t5,
                output,
                precisions=precision or ["fp32"],
                config_name=config_name,
                weights_name=weights_name,
                base=base,
                ema=ema,
                loras=loras,
                force=force,
                progress=report,
                note=tell,
            )
        )

    try:
        bundle = _converted(work, quiet=quiet, verbose=verbose)
    except KeyboardInterrupt:
        abandon(output)
        end_interrupted()
    _report(bundle, output, as_json=as_json, quiet=quiet)


def _require_precisions(names: Sequence[str]) -> None:
    from sao_onnx.bundle.manifest import PRECISIONS

    if unknown := [name for name in names if name not in PRECISIONS]:
        raise typer.BadParameter(
            f"{unknown[0]!r} is no precision; expected {' or '.join(PRECISIONS)}", param_hint="--precision"
        )


def _require_converter() -> None:
    """End the command where what the converter needs is not installed."""
    try:
        import sao_onnx_convert  # noqa: F401
    except ModuleNotFoundError as error:
        note(f"error: converting needs {error.name}; install it with: pip install 'sao-onnx[convert]'")
        raise typer.Exit(FAILED) from None


def _read_loras(texts: Sequence[str]) -> list[tuple[str, float]]:
    """Files or folders with their strengths."""
    from sao_onnx_convert.errors import ConversionError
    from sao_onnx_convert.lora.argument import parse

    try:
        return [parse(text) for text in texts]
    except ConversionError as error:
        raise typer.BadParameter(str(error), param_hint="--lora") from error


def _converted(work: Callable[[Callable[[Progress | Bundle], None]], None], *, quiet: bool, verbose: bool) -> Bundle:
    """Run a conversion in the background with a progress bar, and return its bundle."""
    from sao_onnx_convert import Progress

    with progress_bar(not quiet) as bar:
        for event in in_background(work):
            if not isinstance(event, Progress):
                return event
            if event.size:
                bar.update(f"{event.step}, MB", event.done // 10**6, event.size // 10**6)
            else:
                bar.update("converting", event.index, event.total)
            if verbose and not event.done:
                note(event.step)
    raise RuntimeError("the conversion ended without a bundle")


def _report(bundle: Bundle, output: Path, *, as_json: bool, quiet: bool) -> None:
    """Print what was written and how close it is to PyTorch."""
    manifest = bundle.manifest
    for graph in manifest.graphs:
        if graph.min_snr is not None and graph.snr < graph.min_snr:
            note(f"warning: {graph.role} in {graph.precision} is {graph.snr:.1f} dB from PyTorch, wanted {graph.min_snr:g}")
    size = sum(file.size for file in manifest.files)
    if not quiet and not as_json:
        for graph in manifest.graphs:
            note(f"{graph.role:<20} {graph.precision}  {closeness(graph)}")
        note(f"{megabytes(size)} in {len(manifest.files)} files")
    print(json.dumps({"bundle": str(output), "size": size, "files": len(manifest.files)}) if as_json else output)
