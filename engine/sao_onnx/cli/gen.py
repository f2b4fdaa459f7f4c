"""`sao-onnx gen`: a prompt to an audio file."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sao_onnx.cli.options import MODEL_VARIABLE, Force, Json, Quiet, Verbose
from sao_onnx.cli.terminal import in_background, megabytes, note, progress_bar

if TYPE_CHECKING:
    from collections.abc import Callable

    from sao_onnx.clip import Clip
    from sao_onnx.engine import Engine, Event
    from sao_onnx.request import Options

STDOUT = Path("-")


def gen(
    prompt: Annotated[str, typer.Argument(help="What it shall sound like.", show_default=False)],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="File to write: .wav, .flac or .ogg; - for a WAV on stdout.", show_default="from the prompt"
        ),
    ] = None,
    model: Annotated[
        Path | None, typer.Option("--model", "-m", envvar=MODEL_VARIABLE, help="Folder of a bundle.", show_default=False)
    ] = None,
    seconds: Annotated[float | None, typer.Option("--seconds", help="Length.", show_default="the model's window")] = None,
    steps: Annotated[int | None, typer.Option("--steps", help="Sampling steps.", show_default="the model's")] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="The same seed gives the same clip.", show_default="drawn")] = None,
    sampler: Annotated[
        str | None, typer.Option("--sampler", help="pingpong, euler or dpmpp.", show_default="the model's")
    ] = None,
    cfg: Annotated[
        float | None, typer.Option("--cfg", help="Guidance; 1 is none, more doubles the work.", show_default="the model's")
    ] = None,
    negative: Annotated[
        str | None, typer.Option("--negative", help="What guidance leads away from.", show_default=False)
    ] = None,
    init: Annotated[Path | None, typer.Option("--init", help="Audio file to start from.", show_default=False)] = None,
    strength: Annotated[
        float | None,
        typer.Option("--strength", help="With --init: 0 stays close to the file, 1 ignores it.", show_default="0.66"),
    ] = None,
    threads: Annotated[int | None, typer.Option("--threads", help="Threads.", show_default="every processor")] = None,
    precision: Annotated[
        str | None, typer.Option("--precision", help="One that the bundle holds.", show_default="its best")
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    force: Force = False,
) -> None:
    """Generate a clip from a prompt."""
    if model is None:
        raise typer.BadParameter(
            f"no model: use --model BUNDLE or set {MODEL_VARIABLE}; `sao-onnx convert --help` shows how to make a bundle"
        )
    if output == STDOUT and as_json:
        raise typer.BadParameter("-o - and --json both want stdout; write the clip to a file")
    if strength is not None and init is None:
        raise typer.BadParameter("--strength needs --init")

    import sao_onnx
    from sao_onnx.files import FORMATS, encode_audio, require_free
    from sao_onnx.noise import random_seed
    from sao_onnx.schedule import noise_level

    if output is None:
        seed = random_seed() if seed is None else seed
        output = Path(f"{_slug(prompt)}-{seed}.wav")
    if output != STDOUT:
        if output.suffix.lower() not in FORMATS:
            raise typer.BadParameter(f"{output} has no known suffix; known: {', '.join(FORMATS)}")
        # Before the work, not after it.
        require_free(output, force)
    options: Options = {
        "seconds": seconds,
        "steps": steps,
        "seed": seed,
        "sampler": sampler,
        "cfg_scale": cfg,
        "negative_prompt": negative,
        "init_audio": init,
        "init_noise_level": None if strength is None else noise_level(strength),
    }
    # One clip and out: dropping each stage after use costs nothing and saves most of the memory.
    engine = sao_onnx.load(model, precision=precision, threads=threads, keep_loaded=False)
    if verbose:
        held = engine.manifest
        note(f"{held.model.name}, {engine.precision}, window {held.window_seconds:.2f} s at {held.audio.sample_rate} Hz")
        note(f"DiT in {engine.tuning.dit}, decoder in {engine.tuning.decoder}, threads: {engine.threads}")
    clip = _generate(engine, prompt, options, bar=not quiet)
    if output == STDOUT:
        sys.stdout.buffer.write(encode_audio(clip.samples, clip.sample_rate))
        sys.stdout.buffer.flush()
    else:
        clip.save(output, overwrite=force)
        print(json.dumps(_report(clip, engine, prompt, output)) if as_json else output)
    if not quiet and not as_json:
        note(f"{clip.seconds:.2f} s in {clip.timings.total:.1f} s, seed {clip.seed}")
    if verbose:
        from sao_onnx.machine import peak_memory

        spent = ", ".join(f"{stage} {time:.2f} s" for stage, time in vars(clip.timings).items())
        note(f"{spent}; peak memory {megabytes(peak_memory())}")


def _generate(engine: Engine, prompt: str, options: Options, bar: bool) -> Clip:
    from sao_onnx.engine import Conditioned, Decoded, Finished, Sampled

    def work(report: Callable[[Event], None]) -> None:
        for event in engine.stream(prompt, **options):
            report(event)

    with progress_bar(bar) as progress:
        progress.update("reading the prompt", 0, 1)
        for event in in_background(work):
            match event:
                case Conditioned():
                    progress.update("sampling", 0, event.steps)
                case Sampled():
                    progress.update("sampling", event.index + 1, event.steps)
                    if event.index + 1 == event.steps:
                        progress.update("decoding", 0, None)
                case Decoded():
                    progress.update("decoding", event.piece + 1, event.pieces)
                case Finished():
                    clip = event.clip
    return clip


def _slug(prompt: str) -> str:
    """A file name from a prompt, safe on every file system."""
    return re.sub(r"[^a-z0-9]+", "-", prompt.lower()).strip("-")[:60].rstrip("-") or "clip"


def _report(clip: Clip, engine: Engine, prompt: str, path: Path) -> dict[str, object]:
    from sao_onnx.machine import peak_memory

    return {
        "file": str(path),
        "prompt": prompt,
        "seed": clip.seed,
        "seconds": clip.seconds,
        "sample_rate": clip.sample_rate,
        "channels": len(clip.samples),
        "model": engine.manifest.model.name,
        "precision": engine.precision,
        "threads": engine.threads,
        "tuning": asdict(engine.tuning),
        "timings": vars(clip.timings) | {"total": clip.timings.total},
        "peak_memory": peak_memory(),
    }
