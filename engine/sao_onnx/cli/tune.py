"""`sao-onnx tune`: the fastest settings for a bundle on this machine."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sao_onnx.cli.command_options import Bundle, Json, Quiet
from sao_onnx.cli.terminal import in_background, note, progress_bar

if TYPE_CHECKING:
    from collections.abc import Callable

    from sao_onnx.bundle.bundle import Bundle as OpenedBundle
    from sao_onnx.running.tuning_search import Trial
    from sao_onnx.runtime.tuning import Tuning

BUDGET = 120.0


def tune(
    bundle: Bundle = None,
    budget: Annotated[
        float | None,
        typer.Option(
            "--budget", metavar="SECONDS", help="Seconds after which nothing new is tried.", min=0, show_default=f"{BUDGET:g}"
        ),
    ] = None,
    show: Annotated[bool, typer.Option("--show", help="Show what was found before, and measure nothing.")] = False,
    reset: Annotated[bool, typer.Option("--reset", help="Forget what was found before, and measure nothing.")] = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Find the fastest settings for a bundle on this machine; gen and load use them from then on."""
    if show + reset + (budget is not None) > 1:
        raise typer.BadParameter("--show, --reset and --budget exclude each other")
    from sao_onnx.bundle.bundle import open_bundle
    from sao_onnx.bundle.names import find
    from sao_onnx.running.excerpts import EXCERPT
    from sao_onnx.running.tuning_search import tune as trials
    from sao_onnx.runtime.tuning import require_savable, save_tuning, saved_tuning, tuning_path

    opened = open_bundle(find(bundle))
    if reset:
        _reset(opened, as_json)
        return
    if show:
        _print(saved_tuning(opened), tuning_path(opened), as_json)
        return
    require_savable(opened)

    def work(report: Callable[[Trial], None]) -> None:
        for trial in trials(opened, budget=BUDGET if budget is None else budget):
            report(trial)

    best: Tuning | None = None
    units = {"dit": "a step", "decoder": f"{EXCERPT} latents"}
    with progress_bar(not quiet) as bar:
        bar.update("measuring", 0, None)
        for count, trial in enumerate(in_background(work), start=1):
            best = trial.tuning if trial.better else best
            bar.update("measuring", count, None)
            if not quiet:
                mark = "*" if trial.better else " "
                note(f"{mark} {trial.part:<8} {trial.what:<24} {trial.seconds:6.3f} s for {units[trial.part]}")
    if best is not None:
        _print(best, save_tuning(opened, best), as_json)


def _reset(bundle: OpenedBundle, as_json: bool) -> None:
    from sao_onnx.runtime.tuning import reset_tuning, tuning_path

    removed = reset_tuning(bundle)
    if as_json:
        print(json.dumps({"removed": removed, "file": str(tuning_path(bundle))}))
    else:
        note("the saved tuning is removed" if removed else "no tuning was saved")


def _print(tuning: Tuning | None, path: Path, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"tuning": None if tuning is None else asdict(tuning), "file": str(path)}))
    elif tuning is None:
        print("nothing was found for this bundle on this machine; run `sao-onnx tune`")
    else:
        print(f"threads     {tuning.threads}, {tuning.workers} decoder tiles at a time")
        print(f"tiles       {', '.join(map(str, tuning.tiles))} latents")
        print(f"precision   DiT {tuning.dit}, decoder {tuning.decoder}")
        print(f"options     {', '.join(f'{key}={value}' for key, value in tuning.options.items()) or 'none'}")
        print(f"kept in     {path}")
