"""`sao-onnx gen`: a prompt to an audio file."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from sao_onnx.cli import command_options as o
from sao_onnx.cli.outputs import Outputs, clips_of, expanded
from sao_onnx.cli.recorded import recorded_bits, recorded_engine, recorded_request
from sao_onnx.cli.request_options import prompt_from_stdin, takes_request
from sao_onnx.cli.said_before import drawn, note_work
from sao_onnx.cli.terminal import fraction_bar, in_background, megabytes, note

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sao_onnx.cli.settings import Applied
    from sao_onnx.clip import Clip
    from sao_onnx.engine import Engine
    from sao_onnx.events import Event
    from sao_onnx.request import Request
    from sao_onnx.runtime.memory import Way

PREVIEW_SECONDS = 2.0


@takes_request
def gen(
    context: typer.Context,
    prompt: o.Prompt = None,
    output: o.Output = None,
    count: o.Count = 1,
    model: o.Model = None,
    *,
    surprise: o.Surprise = False,
    bits: o.Bits = None,
    metadata: o.Metadata = True,
    from_file: o.From = None,
    plot: o.Plot = None,
    preview: o.Preview = None,
    play: o.Play = False,
    dry_run: o.DryRun = False,
    threads: o.Threads = None,
    precision: o.Precision = None,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
    force: o.Force = False,
    **written: Any,
) -> None:
    """Generate a clip from a prompt."""
    _require_prompt(prompt is not None or from_file is not None, surprise)
    _require_sense(output, count, plot, as_json=as_json, quiet=quiet, verbose=verbose)
    if play and not dry_run:
        from sao_onnx.cli.play import require_player

        require_player()
    from sao_onnx.provenance import read_provenance
    from sao_onnx.runtime.memory import estimate_peak, require_memory

    recorded = None if from_file is None else read_provenance(from_file)
    if surprise:
        prompt, written["seed"] = drawn(model, written["seed"])
    request = recorded_request(prompt_from_stdin() if prompt == "-" else prompt, written, recorded, from_file)
    bits = recorded_bits(bits, recorded, output)
    clips = clips_of("{prompt}-{seed}.wav" if output is None else output, request, count)
    outputs = Outputs(clips, bits, metadata, as_json, preview and expanded(preview), plot and expanded(plot), force)
    outputs.require([Path(source) for source in (from_file, request.init_audio) if isinstance(source, (str, Path))])
    opened = partial(recorded_engine, model, recorded, precision, threads)
    engine, way = _fitting(opened, request, several=count > 1, preview=preview is not None)
    require_memory(engine.bundle, engine.precision, tuning=engine.tuning, **way)
    if dry_run:
        from sao_onnx.cli.dry_run import show_plan

        peak = estimate_peak(engine.bundle, engine.precision, tuning=engine.tuning, **way)
        show_plan(engine, request, clips, peak, context.obj, as_json=as_json)
        return
    if verbose:
        _note_engine(engine, context.obj)
    if not quiet and not as_json:
        note_work(engine.manifest, request)
    for number, (seed, path) in enumerate(clips, start=1):
        which = f"{number} of {count}: " if count > 1 else ""
        began = time.monotonic()
        clip = _generate(engine, replace(request, seed=seed), which, outputs.preview, bar=not quiet)
        took = time.monotonic() - began
        outputs.write(clip, path, engine)
        if not quiet and not as_json:
            note(f"{clip.seconds:.2f} s in {took:.1f} s, seed {clip.seed}, model {engine.manifest.model.name}")
        if verbose:
            _note_costs(clip)
        # The clip is kept by now, whatever happens to what else is made of it.
        outputs.write_extras(clip, path)
        if play:
            from sao_onnx.cli.play import play as play_clip

            play_clip(clip)


def _fitting(opened: Callable[..., Engine], request: Request, *, several: bool, preview: bool) -> tuple[Engine, Way]:
    """An engine, and how it is run: several clips load no stage twice, where the memory is enough for all of them.

    Args:
        opened: Opens the engine, with `keep_loaded` or without.
        request: Of the first clip.
        several: There are more clips.
        preview: Whether there are previews.
    """
    from sao_onnx.planning.planner import uses_encoder
    from sao_onnx.runtime.memory import fits

    engine = opened(keep_loaded=several)
    way: Way = {"keep_loaded": several, "encoder": uses_encoder(engine.manifest, request), "preview": preview}
    if several and not fits(engine.bundle, engine.precision, tuning=engine.tuning, **way):
        way["keep_loaded"] = False
        engine = opened(keep_loaded=False)
    return engine, way


def _require_prompt(given: bool, surprise: bool) -> None:
    """Refuse a command without a prompt, and one that draws a prompt in vain."""
    if not given and not surprise:
        raise typer.BadParameter('the prompt is missing; for example: sao-onnx gen "rain on a tin roof"')
    if given and surprise:
        raise typer.BadParameter("--surprise draws a prompt; leave the prompt and --from out")


def _require_sense(output: str | None, count: int, plot: Path | None, *, as_json: bool, quiet: bool, verbose: bool) -> None:
    """Refuse options that do not go together."""
    if output == "-" and (as_json or count > 1):
        raise typer.BadParameter("-o - takes one clip and nothing else; write the clip to a file")
    if output == "-" and sys.stdout is not None and sys.stdout.isatty():
        raise typer.BadParameter("-o - writes a WAV to stdout, which is a terminal here; name a file, or add: | aplay")
    if plot is not None and count > 1:
        raise typer.BadParameter("--plot draws one clip; leave --count out")
    if quiet and verbose:
        raise typer.BadParameter("--quiet and --verbose exclude each other")


def _generate(engine: Engine, request: Request, which: str, preview: Path | None, bar: bool) -> Clip:
    """Generate a clip with a progress bar, and previews while it is sampled.

    Args:
        engine: The engine.
        request: With its seed.
        which: Of how many, for the bar.
        preview: File for the previews.
        bar: Whether there shall be a bar.
    """
    from sao_onnx.audio.files import encode_audio, write_audio
    from sao_onnx.audio.prepare import normalize
    from sao_onnx.errors import FileError
    from sao_onnx.events import Finished, Sampled

    suffix = None if preview is None else preview.suffix

    def work(report: Callable[[Event | bytes], None]) -> None:
        for event in engine.stream(request):
            report(event)
            # After the first step there is little to hear, and after the last one there is the clip.
            if suffix is not None and isinstance(event, Sampled) and 1 <= event.index < event.steps - 1:
                audio = engine.decode(event.denoised, PREVIEW_SECONDS)
                report(encode_audio(normalize(audio), engine.manifest.audio.sample_rate, suffix))

    written = False
    with fraction_bar(bar) as show:
        show(f"{which}reading the prompt", 0.0)
        for event in in_background(work):
            if isinstance(event, bytes):
                if preview is not None:
                    try:
                        write_audio(preview, event, overwrite=True)
                        written = True
                    except FileError as error:
                        note(f"warning: {error}; the clip goes on without a preview")
                        preview = None
                continue
            show(f"{which}{_stage(event)}", event.fraction)
            if isinstance(event, Finished):
                clip = event.clip
    if preview is not None and not written:
        note("warning: there was no preview, because there are too few steps")
    return clip


def _stage(event: Event) -> str:
    """What is done after an event, for a progress bar."""
    from sao_onnx.events import Conditioned, Decoded, Sampled

    match event:
        case Conditioned(windows=1):
            return "sampling"
        case Conditioned():
            return f"sampling window {event.window + 1} of {event.windows}"
        case Sampled() if event.index + 1 < event.steps:
            return f"sampling, step {event.index + 1} of {event.steps}"
        case Sampled() | Decoded():
            return "decoding"
    return "finishing"


def _note_engine(engine: Engine, settings: Sequence[Applied]) -> None:
    manifest = engine.manifest
    rate = manifest.audio.sample_rate
    note(f"{manifest.model.name}, {engine.precision}, window {manifest.window_seconds:.2f} s at {rate} Hz")
    note(f"DiT in {engine.tuning.dit}, decoder in {engine.tuning.decoder}, threads: {engine.threads}")
    for setting in settings:
        note(setting.line)


def _note_costs(clip: Clip) -> None:
    from sao_onnx.runtime.process_memory import peak_memory

    spent = ", ".join(f"{stage} {time:.2f} s" for stage, time in vars(clip.timings).items())
    note(f"{spent}; peak memory {megabytes(peak_memory())}")
