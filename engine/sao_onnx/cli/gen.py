"""`sao-onnx gen`: a prompt to an audio file."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sao_onnx.cli.options import MODEL_VARIABLE, Force, Json, Quiet, Verbose
from sao_onnx.cli.terminal import in_background, megabytes, note, progress_bar
from sao_onnx.cli.words import to_options

if TYPE_CHECKING:
    from collections.abc import Callable

    from sao_onnx.clip import Clip
    from sao_onnx.engine import Engine
    from sao_onnx.events import Event
    from sao_onnx.recipe import Recipe
    from sao_onnx.request import Options

STDOUT = "-"
PREVIEW_SECONDS = 2.0


def gen(
    prompt: Annotated[str | None, typer.Argument(help="What it shall sound like.", show_default=False)] = None,
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            help="File to write: .wav, .flac, .ogg, .opus or .mp3; {prompt}, {seed} and {index} are filled in; "
            "- for a WAV on stdout.",
            show_default="{prompt}-{seed}.wav",
        ),
    ] = None,
    count: Annotated[int, typer.Option("--count", "-n", help="Variations, from one seed to the next.", min=1)] = 1,
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
    init_start: Annotated[
        float | None, typer.Option("--init-start", help="With --init: from this second of the file on.", show_default="0")
    ] = None,
    strength: Annotated[
        float | None,
        typer.Option("--strength", help="With --init: 0 stays close to the file, 1 ignores it.", show_default="0.66"),
    ] = None,
    bpm: Annotated[
        float | None, typer.Option("--bpm", help="With --bars: a loop that repeats without a seam.", show_default=False)
    ] = None,
    bars: Annotated[int | None, typer.Option("--bars", help="Bars of a loop.", show_default=False)] = None,
    beats: Annotated[int | None, typer.Option("--beats", help="Beats in a bar.", show_default="4")] = None,
    keep: Annotated[
        list[str] | None,
        typer.Option("--keep", help="With --init: keep FROM:TO, in seconds, as it is; may be repeated.", show_default=False),
    ] = None,
    regenerate: Annotated[
        list[str] | None,
        typer.Option("--regenerate", help="With --init: keep all but FROM:TO; may be repeated.", show_default=False),
    ] = None,
    extend: Annotated[
        float | None,
        typer.Option("--extend", help="With --init: go on from its end for so many seconds.", show_default=False),
    ] = None,
    window: Annotated[
        float | None,
        typer.Option(
            "--window",
            help="Sample a shorter window of so many seconds: less work, but not what the model was trained on.",
            show_default="the model's",
        ),
    ] = None,
    threads: Annotated[int | None, typer.Option("--threads", help="Threads.", show_default="every processor")] = None,
    precision: Annotated[
        str | None, typer.Option("--precision", help="One that the bundle holds.", show_default="its best")
    ] = None,
    again: Annotated[
        Path | None, typer.Option("--from", help="Make the clip of this file again, as its tags say.", show_default=False)
    ] = None,
    normalize: Annotated[
        str | None, typer.Option("--normalize", help="peak; lufs, a loudness; or none.", show_default="peak")
    ] = None,
    loudness: Annotated[
        float | None, typer.Option("--loudness", help="With --normalize lufs: LUFS.", show_default="-14")
    ] = None,
    fade: Annotated[str | None, typer.Option("--fade", help="Seconds at both ends, or IN:OUT.", show_default="none")] = None,
    trim: Annotated[
        str | None, typer.Option("--trim", help="silence: cut it off at both ends.", show_default="nothing")
    ] = None,
    mono: Annotated[bool, typer.Option("--mono", help="One channel.")] = False,
    bits: Annotated[
        int | None, typer.Option("--bits", help="A sample: 16, 24, or in .wav 32 (floating point).", show_default="16")
    ] = None,
    metadata: Annotated[bool, typer.Option("--metadata/--no-metadata", help="Write prompt and settings into the file.")] = True,
    picture: Annotated[
        Path | None, typer.Option("--plot", help="Draw waveform and spectrogram: .png, .svg or .pdf.", show_default=False)
    ] = None,
    preview: Annotated[
        Path | None,
        typer.Option(
            "--preview", help="While sampling, keep writing the first two seconds so far to a WAV.", show_default=False
        ),
    ] = None,
    aloud: Annotated[bool, typer.Option("--play", help="Play the clip.")] = False,
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
    if output == STDOUT and (as_json or count > 1):
        raise typer.BadParameter("-o - takes one clip and nothing else; write the clip to a file")
    if prompt is None and again is None:
        raise typer.BadParameter('what shall it sound like? For example: sao-onnx gen "rain on a tin roof"')

    from sao_onnx.noise import random_seed
    from sao_onnx.recipe import recipe_of
    from sao_onnx.request import known_options

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
    words = {
        "seconds": seconds,
        "steps": steps,
        "sampler": sampler,
        "cfg": cfg,
        "negative": negative,
        "init": _started_from(recipe, init),
        "init-start": init_start,
        "strength": strength,
        "extend": extend,
        "window": window,
        "bpm": bpm,
        "bars": bars,
        "beats": beats,
        "keep": keep or None,
        "regenerate": regenerate or None,
        "normalize": normalize,
        "loudness": loudness,
        "fade": fade,
        "trim": trim,
        "mono": True if mono else None,
    }
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
            print(json.dumps(report(clip, engine, path)) if as_json else path, flush=True)
        if picture is not None:
            from sao_onnx.picture import plot

            plot(clip, picture, overwrite=force)
        if not quiet and not as_json:
            note(f"{clip.seconds:.2f} s in {clip.timings.total:.1f} s, seed {clip.seed}")
        if verbose:
            _note_costs(clip)
        if aloud:
            from sao_onnx.cli.play import play

            play(clip)


def _targets(output: str, prompt: str, seed: int, count: int) -> list[tuple[int, Path]]:
    """Every seed with the file that its clip goes to."""
    from sao_onnx.cli.names import file_name, for_several
    from sao_onnx.errors import RequestError
    from sao_onnx.noise import MAX_SEED

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
        from sao_onnx.files import require_free
        from sao_onnx.picture import require_plotting

        if count > 1:
            raise typer.BadParameter("--plot draws one clip; leave --count out")
        require_plotting(picture)
        require_free(picture, force)
    if aloud:
        from sao_onnx.cli.play import require_player

        require_player()


def require_writable(output: Path, bits: int | None, force: bool, *, beside: bool) -> None:
    """Refuse an output before the work, not after it."""
    from sao_onnx.files import FORMATS, audio_format, require_free

    if output.suffix.lower() not in FORMATS:
        raise typer.BadParameter(f"{output} has no known suffix; known: {', '.join(FORMATS)}")
    audio_format(output.suffix, bits)
    require_free(output, force)
    if beside:
        require_free(output.with_suffix(".json"), force)


def _open(model: Path, recipe: Recipe | None, precision: str | None, threads: int | None, *, keep_loaded: bool) -> Engine:
    """The engine, run as the recipe was.

    For one clip, dropping each stage after use costs nothing and saves most of the memory.
    """
    import sao_onnx

    if recipe is None or precision is not None:
        engine = sao_onnx.load(model, precision=precision, threads=threads, keep_loaded=keep_loaded)
    else:
        tuning = recipe.tuning if threads is None else replace(recipe.tuning, threads=threads)
        engine = sao_onnx.load(model, precision=recipe.precision, tuned=tuning, keep_loaded=keep_loaded)
    if recipe is not None and engine.bundle.fingerprint != recipe.fingerprint:
        raise sao_onnx.RequestError(
            f"the clip was made with {recipe.model} ({recipe.fingerprint}), and this is {engine.manifest.model.name} "
            f"({engine.bundle.fingerprint}); name that bundle with --model"
        )
    return engine


def _note_costs(clip: Clip) -> None:
    from sao_onnx.machine import peak_memory

    spent = ", ".join(f"{stage} {time:.2f} s" for stage, time in vars(clip.timings).items())
    note(f"{spent}; peak memory {megabytes(peak_memory())}")


def _generate(engine: Engine, prompt: str, options: Options, which: str, preview: Path | None, bar: bool) -> Clip:
    from sao_onnx.audio import normalize
    from sao_onnx.events import Conditioned, Decoded, Finished, Sampled
    from sao_onnx.files import encode_audio, write_whole

    def work(report: Callable[[Event], None]) -> None:
        for event in engine.stream(prompt, **options):
            report(event)
            # Of the first steps there is little to hear, and after the last one there is the clip.
            if preview is not None and isinstance(event, Sampled) and 1 <= event.index < event.steps - 1:
                audio = engine.decode(event.denoised, PREVIEW_SECONDS)
                data = encode_audio(normalize(audio), engine.manifest.audio.sample_rate, preview.suffix)
                write_whole(preview, data, overwrite=True)

    with progress_bar(bar) as progress:
        part = which
        progress.update(f"{which}reading the prompt", 0, 1)
        for event in in_background(work):
            match event:
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


def save(clip: Clip, path: Path, *, force: bool, bits: int | None, metadata: bool, beside: bool) -> None:
    """Write a clip and, if asked, its recipe beside it."""
    from sao_onnx.files import write_whole

    clip.save(path, overwrite=force, bits=bits, metadata=metadata)
    if beside:
        write_whole(path.with_suffix(".json"), f"{clip.recipe.to_json()}\n".encode(), overwrite=force)


def report(clip: Clip, engine: Engine, path: Path) -> dict[str, object]:
    """What `--json` prints of a clip."""
    from sao_onnx.machine import peak_memory

    return {
        "file": str(path),
        "prompt": clip.recipe.prompt,
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
