"""`sao-onnx gen`: a prompt to an audio file."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from sao_onnx.cli import options as o
from sao_onnx.cli.clips import require_writable, save, tell
from sao_onnx.cli.terminal import in_background, megabytes, note, progress_bar
from sao_onnx.cli.words import WORDS, to_options

if TYPE_CHECKING:
    from collections.abc import Callable

    from sao_onnx.clip import Clip
    from sao_onnx.engine import Engine
    from sao_onnx.events import Event
    from sao_onnx.provenance import Recipe
    from sao_onnx.request import Options

STDOUT = "-"
PREVIEW_SECONDS = 2.0


def gen(
    context: typer.Context,
    prompt: o.Prompt = None,
    output: o.Output = None,
    count: o.Count = 1,
    model: o.Model = None,
    seconds: o.Seconds = None,
    steps: o.Steps = None,
    seed: o.Seed = None,
    sampler: o.Sampler = None,
    cfg: o.Cfg = None,
    negative: o.Negative = None,
    init: o.Init = None,
    init_start: o.InitStart = None,
    strength: o.Strength = None,
    keep: o.Keep = None,
    regenerate: o.Regenerate = None,
    extend: o.Extend = None,
    bpm: o.Bpm = None,
    bars: o.Bars = None,
    beats: o.Beats = None,
    window: o.Window = None,
    normalize: o.Normalize = None,
    loudness: o.Loudness = None,
    fade: o.Fade = None,
    trim: o.Trim = None,
    mono: o.Mono = False,
    bits: o.Bits = None,
    metadata: o.Metadata = True,
    again: o.From = None,
    picture: o.Plot = None,
    preview: o.Preview = None,
    aloud: o.Play = False,
    threads: o.Threads = None,
    precision: o.Precision = None,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
    force: o.Force = False,
) -> None:
    """Generate a clip from a prompt."""
    if output == STDOUT and (as_json or count > 1):
        raise typer.BadParameter("-o - takes one clip and nothing else; write the clip to a file")
    if prompt is None and again is None:
        raise typer.BadParameter('what shall it sound like? For example: sao-onnx gen "rain on a tin roof"')

    from sao_onnx.provenance import recipe_of
    from sao_onnx.request import known_options
    from sao_onnx.sampling.noise import random_seed

    recipe = None if again is None else recipe_of(again)
    if recipe is not None:
        prompt = recipe.prompt if prompt is None else prompt
        seed = recipe.seed if seed is None else seed
    prompt, seed = prompt or "", random_seed() if seed is None else seed
    targets = _targets(output or "{prompt}-{seed}.wav", prompt, seed, count)
    for _, path in targets:
        if path != Path(STDOUT):
            require_writable(path, bits, force, beside=as_json)
    _require_extras(picture, aloud, count, force)
    if preview is not None:
        require_writable(preview, None, force, beside=False)
    # What shapes the clip is read as the lines of a batch are.
    words = {name: context.params[name.replace("-", "_")] for name in WORDS}
    words |= {"init": _started_from(recipe, init), "seed": None, "mono": mono or None}
    options: Options = {**({} if recipe is None else known_options(recipe.options)), **to_options(words)}
    engine = _open(model, recipe, precision, threads, keep_loaded=count > 1)
    if verbose:
        held = engine.manifest
        note(f"{held.model.name}, {engine.precision}, window {held.window_seconds:.2f} s at {held.audio.sample_rate} Hz")
        note(f"DiT in {engine.tuning.dit}, decoder in {engine.tuning.decoder}, threads: {engine.threads}")
    for number, (variation, path) in enumerate(targets, start=1):
        which = f"{number} of {count}: " if count > 1 else ""
        clip = _generate(engine, prompt, {**options, "seed": variation}, which, preview, bar=not quiet)
        if path == Path(STDOUT):
            sys.stdout.buffer.write(clip.encoded(bits=bits, metadata=metadata))
            sys.stdout.buffer.flush()
        else:
            save(clip, path, force=force, bits=bits, metadata=metadata, beside=as_json)
            tell(clip, engine, path, as_json=as_json)
        if picture is not None:
            from sao_onnx.audio.picture import plot

            plot(clip, picture, overwrite=force)
        if not quiet and not as_json:
            note(f"{clip.seconds:.2f} s in {clip.timings.total:.1f} s, seed {clip.seed}, model {engine.manifest.model.name}")
        if verbose:
            _note_costs(clip)
        if aloud:
            from sao_onnx.cli.play import play

            play(clip)


def _targets(output: str, prompt: str, seed: int, count: int) -> list[tuple[int, Path]]:
    """Every seed with the file that its clip goes to."""
    from sao_onnx.cli.names import file_name, for_several
    from sao_onnx.errors import RequestError
    from sao_onnx.sampling.noise import MAX_SEED

    if not 0 <= seed <= MAX_SEED - count + 1:
        last = f" and count {count}" if count > 1 else ""
        raise RequestError(f"seed is {seed}{last}, expected 0 to {MAX_SEED}, the last one included")
    if output == STDOUT:
        return [(seed, Path(STDOUT))]
    template = for_several(output) if count > 1 else output
    return [(seed + index, file_name(template, prompt=prompt, seed=seed + index, index=index + 1)) for index in range(count)]


def _require_extras(picture: Path | None, aloud: bool, count: int, force: bool) -> None:
    """Refuse a picture or a sound that could not be made, before the work."""
    if picture is not None:
        import platformdirs

        from sao_onnx.audio.files import require_free
        from sao_onnx.audio.picture import require_plotting

        if count > 1:
            raise typer.BadParameter("--plot draws one clip; leave --count out")
        # matplotlib keeps a list of fonts, which takes seconds to make: among the files of this program, not beside them.
        os.environ.setdefault("MPLCONFIGDIR", str(platformdirs.user_cache_path("sao-onnx") / "matplotlib"))
        require_plotting(picture)
        require_free(picture, force)
    if aloud:
        from sao_onnx.cli.play import require_player

        require_player()


def _open(model: str | None, recipe: Recipe | None, precision: str | None, threads: int | None, *, keep_loaded: bool) -> Engine:
    """The engine, run as the recipe was.

    For one clip, dropping each stage after use costs nothing and saves most of the memory.
    """
    import sao_onnx
    from sao_onnx.bundle.names import find
    from sao_onnx.runtime.memory import require_memory

    if recipe is None or precision is not None:
        engine = sao_onnx.load(find(model), precision=precision, threads=threads, keep_loaded=keep_loaded)
    else:
        tuning = recipe.tuning if threads is None else replace(recipe.tuning, threads=threads)
        engine = sao_onnx.load(find(model), precision=recipe.precision, tuned=tuning, keep_loaded=keep_loaded)
    if recipe is not None and engine.bundle.fingerprint != recipe.fingerprint:
        raise sao_onnx.RequestError(
            f"the clip was made with {recipe.model} ({recipe.fingerprint}), and this is {engine.manifest.model.name} "
            f"({engine.bundle.fingerprint}); name that bundle with --model"
        )
    require_memory(engine.bundle, engine.precision, keep_loaded=keep_loaded)
    return engine


def _note_costs(clip: Clip) -> None:
    from sao_onnx.runtime.machine import peak_memory

    spent = ", ".join(f"{stage} {time:.2f} s" for stage, time in vars(clip.timings).items())
    note(f"{spent}; peak memory {megabytes(peak_memory())}")


def _generate(engine: Engine, prompt: str, options: Options, which: str, preview: Path | None, bar: bool) -> Clip:
    from sao_onnx.audio.files import encode_audio, write_whole
    from sao_onnx.audio.prepare import normalize
    from sao_onnx.events import Conditioned, Decoded, Finished, Sampled

    def work(report: Callable[[Event | bytes], None]) -> None:
        for event in engine.stream(prompt, **options):
            report(event)
            # Of the first steps there is little to hear, and after the last one there is the clip.
            if preview is not None and isinstance(event, Sampled) and 1 <= event.index < event.steps - 1:
                audio = engine.decode(event.denoised, PREVIEW_SECONDS)
                report(encode_audio(normalize(audio), engine.manifest.audio.sample_rate, preview.suffix))

    with progress_bar(bar) as progress:
        part = which
        progress.update(f"{which}reading the prompt", 0, 1)
        for event in in_background(work):
            match event:
                case bytes() if preview is not None:
                    # Not in the background, which ends in the middle of anything when the command is interrupted.
                    write_whole(preview, event, overwrite=True)
                case Conditioned():
                    part = f"{which}window {event.window + 1} of {event.windows}, " if event.windows > 1 else which
                    progress.update(f"{part}sampling", 0, event.steps)
                case Sampled():
                    progress.update(f"{part}sampling", event.index + 1, event.steps)
                    if event.index + 1 == event.steps:
                        progress.update(f"{part}decoding", 0, None)
                case Decoded():
                    progress.update(f"{part}decoding", event.piece + 1, event.pieces)
                case Finished():
                    clip = event.clip
    return clip


def _started_from(recipe: Recipe | None, init: Path | None) -> Path | None:
    """The initial audio of this command, else that of the recipe."""
    if init is not None or recipe is None or recipe.init_audio is None:
        return init
    if not recipe.init_audio:
        raise typer.BadParameter("the clip was started from audio that was no file; name it with --init")
    return Path(recipe.init_audio)
