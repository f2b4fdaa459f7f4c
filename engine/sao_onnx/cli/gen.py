"""`sao-onnx gen`: a prompt to an audio file."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from sao_onnx.cli import command_options as o
from sao_onnx.cli.recorded import recorded_bits, recorded_engine, recorded_request
from sao_onnx.cli.request_options import takes_request
from sao_onnx.cli.results import describe, print_result, require_writable, save
from sao_onnx.cli.terminal import fraction_bar, in_background, megabytes, note

if TYPE_CHECKING:
    from collections.abc import Callable

    from sao_onnx.clip import Clip
    from sao_onnx.engine import Engine
    from sao_onnx.events import Event
    from sao_onnx.request import Request

STDOUT = "-"
PREVIEW_SECONDS = 2.0


@takes_request
def gen(
    prompt: o.Prompt = None,
    output: o.Output = None,
    count: o.Count = 1,
    model: o.Model = None,
    *,
    bits: o.Bits = None,
    metadata: o.Metadata = True,
    from_file: o.From = None,
    plot: o.Plot = None,
    preview: o.Preview = None,
    play: o.Play = False,
    threads: o.Threads = None,
    precision: o.Precision = None,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
    force: o.Force = False,
    **written: Any,
) -> None:
    """Generate a clip from a prompt."""
    if output == STDOUT and (as_json or count > 1):
        raise typer.BadParameter("-o - takes one clip and nothing else; write the clip to a file")
    if prompt is None and from_file is None:
        raise typer.BadParameter('the prompt is missing; for example: sao-onnx gen "rain on a tin roof"')
    from sao_onnx.provenance import read_provenance
    from sao_onnx.runtime.memory import require_memory

    recorded = None if from_file is None else read_provenance(from_file)
    request = recorded_request(prompt, written, recorded, from_file)
    bits = recorded_bits(bits, recorded, output)
    targets = _targets(output or "{prompt}-{seed}.wav", request, count)
    _require_files(targets, bits, preview, force, sidecar=as_json)
    _require_extras(plot, play, count, force)
    engine = recorded_engine(model, recorded, precision, threads, keep_loaded=count > 1)
    require_memory(
        engine.bundle,
        engine.precision,
        tuning=engine.tuning,
        keep_loaded=count > 1,
        encoder=request.init_audio is not None,
        preview=preview is not None,
    )
    if verbose:
        _note_engine(engine)
    for number, (seed, path) in enumerate(targets, start=1):
        which = f"{number} of {count}: " if count > 1 else ""
        clip = _generate(engine, replace(request, seed=seed), which, preview, bar=not quiet)
        if path == Path(STDOUT):
            sys.stdout.buffer.write(clip.encoded(bits=bits, metadata=metadata))
            sys.stdout.buffer.flush()
        else:
            save(clip, path, force=force, bits=bits, metadata=metadata, sidecar=as_json)
            print_result(describe(clip, engine, path), as_json=as_json)
        if not quiet and not as_json:
            note(f"{clip.seconds:.2f} s in {clip.timings.total:.1f} s, seed {clip.seed}, model {engine.manifest.model.name}")
        if verbose:
            _note_costs(clip)
        _show(clip, plot, play, force)


def _targets(output: str, request: Request, count: int) -> list[tuple[int, Path]]:
    """Every seed with the file that its clip goes to."""
    from sao_onnx.cli.names import file_name, for_several
    from sao_onnx.errors import RequestError
    from sao_onnx.request import MAX_SEED

    first = request.seed or 0
    if first + count - 1 > MAX_SEED:
        raise RequestError(f"seed is {first} and count {count}, expected seeds of 0 to {MAX_SEED}, the last one included")
    if output == STDOUT:
        return [(first, Path(STDOUT))]
    template = for_several(output) if count > 1 else output
    seeds = range(first, first + count)
    return [(seed, file_name(template, prompt=request.prompt, seed=seed, index=seed - first + 1)) for seed in seeds]


def _require_files(
    targets: list[tuple[int, Path]], bits: int | None, preview: Path | None, force: bool, *, sidecar: bool
) -> None:
    """Refuse files that could not be written, before the work."""
    for _, path in targets:
        if path != Path(STDOUT):
            require_writable(path, bits, force, sidecar=sidecar)
    if preview is not None:
        require_writable(preview, None, force, sidecar=False)


def _require_extras(plot: Path | None, play: bool, count: int, force: bool) -> None:
    """Refuse a picture that could not be drawn or a clip that could not be played, before the work."""
    if plot is not None:
        import platformdirs

        from sao_onnx.audio.picture import require_plotting
        from sao_onnx.writing import require_free

        if count > 1:
            raise typer.BadParameter("--plot draws one clip; leave --count out")
        # matplotlib keeps a list of fonts, which takes seconds to make: in the folder of this program, not in its own.
        os.environ.setdefault("MPLCONFIGDIR", str(platformdirs.user_cache_path("sao-onnx") / "matplotlib"))
        require_plotting(plot)
        require_free(plot, force)
    if play:
        from sao_onnx.cli.play import require_player

        require_player()


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
    from sao_onnx.events import Finished, Sampled

    def work(report: Callable[[Event | bytes], None]) -> None:
        for event in engine.stream(request):
            report(event)
            # After the first step there is little to hear, and after the last one there is the clip.
            if preview is not None and isinstance(event, Sampled) and 1 <= event.index < event.steps - 1:
                audio = engine.decode(event.denoised, PREVIEW_SECONDS)
                report(encode_audio(normalize(audio), engine.manifest.audio.sample_rate, preview.suffix))

    with fraction_bar(bar) as show:
        show(f"{which}reading the prompt", 0.0)
        for event in in_background(work):
            if isinstance(event, bytes):
                if preview is not None:
                    # Not in the background, where an interruption could leave half of it.
                    write_audio(preview, event, overwrite=True)
                continue
            show(f"{which}{_stage(event)}", event.fraction)
            if isinstance(event, Finished):
                clip = event.clip
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


def _note_engine(engine: Engine) -> None:
    manifest = engine.manifest
    rate = manifest.audio.sample_rate
    note(f"{manifest.model.name}, {engine.precision}, window {manifest.window_seconds:.2f} s at {rate} Hz")
    note(f"DiT in {engine.tuning.dit}, decoder in {engine.tuning.decoder}, threads: {engine.threads}")


def _note_costs(clip: Clip) -> None:
    from sao_onnx.runtime.process_memory import peak_memory

    spent = ", ".join(f"{stage} {time:.2f} s" for stage, time in vars(clip.timings).items())
    note(f"{spent}; peak memory {megabytes(peak_memory())}")


def _show(clip: Clip, plot: Path | None, play: bool, force: bool) -> None:
    """Draw and play a clip, if asked for."""
    if plot is not None:
        from sao_onnx.audio.picture import plot as draw

        draw(clip, plot, overwrite=force)
    if play:
        from sao_onnx.cli.play import play as play_clip

        play_clip(clip)
