"""`load` and `Engine`: the order of the stages, and when each is loaded and dropped."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TypeVar, Unpack, cast

import numpy as np

from sao_onnx.arrays import Array
from sao_onnx.audio.finish import Finish
from sao_onnx.bundle.bundle import Bundle, open_bundle
from sao_onnx.bundle.manifest import Manifest, Precision
from sao_onnx.bundle.names import find
from sao_onnx.clip import Clip, Timings
from sao_onnx.errors import RequestError
from sao_onnx.events import Conditioned, Decoded, Event, Finished, Sampled
from sao_onnx.planning.loops import joined
from sao_onnx.planning.regions import AUDIO_RAMP, LATENT_RAMP, weights
from sao_onnx.planning.windows import Window, windows
from sao_onnx.provenance import Recipe
from sao_onnx.request import Options, Request, make_request, number, read_initial
from sao_onnx.running.clock import Clock
from sao_onnx.running.loading import load_conditioner, load_decoder, load_denoiser, load_encoder
from sao_onnx.running.stage import Stage
from sao_onnx.runtime.sessions import SessionFactory
from sao_onnx.runtime.tuning import Tuning, default_tuning, saved_tuning
from sao_onnx.sampling.noise import MAX_SEED, Noise
from sao_onnx.sampling.samplers import SAMPLERS, keeping
from sao_onnx.stages.conditioning import Conditioning

T = TypeVar("T")


_OF_THE_WHOLE = (
    "seed",
    "init_audio",
    "init_start",
    "extend",
    "normalize",
    "loudness",
    "fade_in",
    "fade_out",
    "trim_silence",
    "mono",
)
"""Options that are about an extended recording, not about each of its windows."""


def load(
    model: str | Path | None = None,
    *,
    precision: str | None = None,
    threads: int | None = None,
    providers: Sequence[str] | None = None,
    session_options: Mapping[str, str] | None = None,
    keep_loaded: bool = True,
    tuned: bool | Tuning = True,
) -> Engine:
    """Open a bundle for generating. Its graphs are opened when they are first needed.

    Args:
        model: Folder of a bundle, or a name that `sao-onnx models` lists; by default sao-tiny, the small demonstrator that the
            package brings.
        precision: One that the bundle holds, for all parts; by default its best.
        threads: Threads of each run; by default every processor that this process may use.
        providers: ONNX Runtime execution providers, the preferred first; by default the CPU's. Those that are not there are
            left out with a warning.
        session_options: Session configuration entries of ONNX Runtime, over the engine's own.
        keep_loaded: Keep every stage's graphs for the next clip. Without it each stage is dropped after use, and memory peaks
            at the largest stage instead of their sum.
        tuned: Where neither a precision nor threads are given, use what `sao-onnx tune` found for this bundle on this machine;
            or the tuning that is given, as a `Recipe` names it.

    Raises:
        BundleNotFoundError: There is no bundle.
        BundleError: It is damaged, of another version, or lacks the precision.
        ProviderError: `threads` is less than 1.
    """
    bundle = open_bundle(find(model))
    best = bundle.precision(precision)
    if isinstance(tuned, Tuning):
        tuning: Tuning | None = tuned
    else:
        tuning = saved_tuning(bundle) if tuned and precision is None and threads is None else None
    options = ({} if tuning is None else tuning.options) | dict(session_options or {})
    factory = SessionFactory(threads if tuning is None else tuning.threads, providers, options)
    return Engine(bundle, best, factory, tuning or default_tuning(bundle, best, factory.threads), keep_loaded)


class Engine:
    """A model ready to generate. Safe to use from several threads at once. Made by `load`.

    Attributes:
        bundle: Where it came from.
        precision: What it runs in, but for the parts that `tuning` names.
        tuning: How its parts are run.
    """

    def __init__(
        self, bundle: Bundle, precision: Precision, factory: SessionFactory, tuning: Tuning, keep_loaded: bool
    ) -> None:
        self.bundle = bundle
        self.precision = precision
        self.tuning = tuning
        self._factory = factory
        self._conditioner = Stage(lambda: load_conditioner(bundle, precision, factory), keep_loaded)
        self._denoiser = Stage(lambda: load_denoiser(bundle, tuning.dit, factory), keep_loaded)
        self._decoder = Stage(lambda: load_decoder(bundle, tuning, factory), keep_loaded)
        self._encoder = Stage(lambda: load_encoder(bundle, precision, factory), keep_loaded)

    @property
    def manifest(self) -> Manifest:
        """What the bundle says of itself."""
        return self.bundle.manifest

    @property
    def threads(self) -> int:
        """Threads of each run."""
        return self._factory.threads

    def generate(self, prompt: str, **options: Unpack[Options]) -> Clip:
        """Generate a clip.

        Args:
            prompt: What it shall sound like. A prompt longer than the model reads is cut, with a warning.
            seconds: Length, more than 0 and at most the window; by default the window.
            steps: Sampling steps, at least 1; by default the model's (8 for Stable Audio Open Small).
            seed: 0 to 2³² − 1; the same seed, request and model give the same clip, here and in PyTorch. By default drawn.
            sampler: "pingpong", "euler" or "dpmpp"; by default the model's ("pingpong").
            cfg_scale: Guidance, 0 to 100; by default the model's (1, which is none). Others double the work of sampling.
            negative_prompt: What guidance leads away from.
            init_audio: Audio to start from, cut or padded with silence to the window: samples [channels, frames] with their
                rate, a file, or a clip.
            init_start: Where in `init_audio` to begin, in seconds; by default 0. The clip's times count from there.
            init_noise_level: How much noise to start from, 0.12 (close to `init_audio`) to 1 (ignores it); by default 0.7, or 1
                where something is kept.
            keep: Regions of `init_audio`, each from and to in seconds, that stay as they are while the rest is made anew to
                fit. Cross-faded inside the regions, over 30 ms of audio.
            regenerate: The regions to make anew instead; the rest is kept.
            extend: Go on from the end of `init_audio` for so many seconds, past the window if need be, in windows that overlap;
                the clip is all of it, the recording as it was and what was added. Seeds count on from one window to the next.
            bpm: With `bars`, make a loop: of exactly their length, the tempo added to a prompt that names none, the end leading
                into the start. 20 to 400.
            bars: 1 to 64.
            beats: In a bar, 1 to 16; by default 4.
            window_seconds: Sample a shorter window, for less work; the model was trained on the whole one.
            numbers: Values for number conditioners of the model by name, over the defaults: `seconds_total` is `seconds`, any
                other its minimum.
            trim: Cut the clip to `seconds`; otherwise the whole window is decoded.
            normalize: "peak" (True) scales the clip to a peak of 1, "lufs" to a loudness, with a limiter that never clips;
                "none" (False) leaves it. By default "peak", and "none" where something is kept. Silence stays silence.
            loudness: For "lufs", -70 to 0 LUFS.
            fade_in: Seconds, 0 to 60.
            fade_out: Seconds, 0 to 60.
            trim_silence: Cut off what is more than 60 dB below the peak at both ends.
            mono: Mix all channels to one.

        Raises:
            RequestError: A value outside its range.
            AudioFileError: The initial audio cannot be read.
            BundleError: A graph cannot be loaded.
            NumericalError: A network returned values that are not finite.
        """
        last = deque(self.stream(prompt, **options), maxlen=1)[0]
        return cast(Finished, last).clip

    def stream(self, prompt: str, **options: Unpack[Options]) -> Iterator[Event]:
        """Generate a clip event by event. The arguments and errors are those of `generate`; the request is checked at once.

        Nothing runs between two events, so a consumer that stops iterating stops the work.
        """
        extend = options.get("extend")
        if extend is not None:
            return self._extended(prompt, number("extend", extend), options)
        request = make_request(self.manifest, prompt, **options)
        return self._events(request, self._recipe(request, options))

    def generate_many(self, requests: Iterable[tuple[str, Options]], *, jobs: int = 1) -> Iterator[Clip]:
        """Generate several clips, each a prompt with its options, in order.

        Only as many are begun as `jobs` says, so that a consumer that stops iterating leaves the rest undone. All jobs share
        the engine's graphs; `load(threads=...)` is for each.

        Raises:
            RequestError: `jobs` is less than 1. Others are those of `generate`, raised where the clip would have come.
        """
        if jobs < 1:
            raise RequestError(f"jobs is {jobs}, expected at least 1")
        return self._many(iter(requests), jobs)

    def _many(self, requests: Iterator[tuple[str, Options]], jobs: int) -> Iterator[Clip]:
        begun: deque[Future[Clip]] = deque()
        with ThreadPoolExecutor(jobs) as pool:
            for prompt, options in requests:
                begun.append(pool.submit(self.generate, prompt, **options))
                if len(begun) == jobs:
                    yield begun.popleft().result()
            while begun:
                yield begun.popleft().result()

    def decode(self, latents: Array, seconds: float | None = None) -> Array:
        """Audio of latents, for listening to an estimate (`Sampled.denoised`) before sampling is done.

        The first seconds cost their share of the whole and no more.

        Args:
            latents: float32 [latent channels, n].
            seconds: As much as is wanted, from the start; by default all.

        Returns:
            float32 [channels, frames], not normalised.

        Raises:
            RequestError: The latents are not of this shape, or `seconds` is not more than 0.
        """
        channels, ratio = self.manifest.latents.channels, self.manifest.latents.ratio
        if latents.ndim != 2 or len(latents) != channels or not latents.shape[1]:
            raise RequestError(f"latents have shape {latents.shape}, expected ({channels}, n)")
        frames = latents.shape[1] * ratio
        if seconds is not None:
            frames = min(frames, round(number("seconds", seconds) * self.manifest.audio.sample_rate))
            if frames < 1:
                raise RequestError(f"seconds is {seconds}, expected more than 0")
        with self._decoder.use() as decoder:
            pieces = list(decoder(np.ascontiguousarray(latents[None], np.float32), frames))
        audio: Array = np.concatenate(pieces, axis=-1)[0]
        return audio

    def close(self) -> None:
        """Let go of every loaded graph. The engine stays usable and loads them again when needed."""
        for stage in (self._conditioner, self._denoiser, self._decoder, self._encoder):
            stage.drop()

    def _extended(self, prompt: str, seconds: float, options: Options) -> Iterator[Event]:
        """Events of every window, and at the end one clip."""
        rate = self.manifest.audio.sample_rate
        single = cast(Options, {name: value for name, value in options.items() if name not in _OF_THE_WHOLE})
        for name in ("seconds", "keep", "regenerate", "bpm", "bars", "beats", "window_seconds", "trim"):
            if options.get(name) is not None:
                raise RequestError(f"{name} does not go with extend, which decides it")
        init = options.get("init_audio")
        if init is None:
            raise RequestError("extend needs initial audio to go on from")
        # All that can be wrong with the request is found here, before the first window.
        whole = make_request(
            self.manifest, prompt, **cast(Options, {**options, "init_audio": None, "init_start": None, "extend": None})
        )
        audio = read_initial(self.manifest, init, options.get("init_start"))
        added = round(seconds * rate)
        plan = windows(audio.shape[1], added, self.manifest.audio.window, rate)
        if whole.seed + len(plan) - 1 > MAX_SEED:
            raise RequestError(f"seed is {whole.seed}, expected {MAX_SEED - len(plan) + 1} or less for {len(plan)} windows")
        finish = replace(whole.finish, normalize=whole.finish.normalize if options.get("normalize") is not None else "none")
        recipe = self._recipe(whole, options)
        return self._windows(prompt, single, audio, plan, whole.seed, finish, recipe)

    def _windows(
        self,
        prompt: str,
        options: Options,
        audio: Array,
        plan: Sequence[Window],
        seed: int,
        finish: Finish,
        recipe: Recipe,
    ) -> Iterator[Event]:
        rate = self.manifest.audio.sample_rate
        timings = Timings()
        for index, window in enumerate(plan):
            seam = audio.shape[1] - window.overlap
            part: Options = {
                **options,
                "seed": seed + index,
                "seconds": (window.overlap + window.added) / rate,
                "init_audio": (audio[:, seam:], rate),
                "keep": [(0.0, window.overlap / rate)],
                "normalize": "none",
            }
            request = make_request(self.manifest, prompt, **part)
            for event in self._events(request, recipe):
                if isinstance(event, Conditioned):
                    yield replace(event, window=index, windows=len(plan))
                elif isinstance(event, Finished):
                    clip = event.clip
                else:
                    yield event
            audio = np.concatenate([audio[:, :seam], clip.samples], axis=1)
            timings = timings + clip.timings
        yield Finished(Clip(finish(audio, rate), rate, seed, clip.latents, timings, recipe))

    def _recipe(self, request: Request, options: Options) -> Recipe:
        from sao_onnx import __version__

        init = options.get("init_audio")
        # As plain Python, because JSON knows no NumPy.
        given = {
            name: value.item() if isinstance(value, np.generic) else dict(value) if isinstance(value, Mapping) else value
            for name, value in options.items()
            if value is not None and name not in ("seed", "init_audio")
        }
        return Recipe(
            prompt=request.prompt,
            seed=request.seed,
            model=self.manifest.model.name,
            fingerprint=self.bundle.fingerprint,
            precision=self.precision,
            tuning=self.tuning,
            version=__version__,
            options=given,
            init_audio=None if init is None else str(init) if isinstance(init, (str, Path)) else "",
        )

    def _events(self, request: Request, recipe: Recipe) -> Iterator[Event]:
        clock = Clock()
        positive, negative = self._condition(request, clock)
        yield Conditioned(len(request.levels) - 1)
        noise = Noise(request.seed)
        latents, encoded = self._start(request, noise, clock)
        with self._use(self._denoiser, clock) as denoiser:
            if request.cfg_scale == 1:
                velocity = denoiser.velocity(positive)
            else:
                velocity = denoiser.guided(positive, negative, request.cfg_scale)
            if encoded is not None and request.kept is not None:
                velocity = keeping(velocity, encoded, self._weights(request, latent=True))
            shape = latents.shape
            steps = SAMPLERS[request.sampler](velocity, latents, request.levels, lambda: noise.normal(shape))
            for step in clock.iterate("sampling", steps):
                latents = step.latents
                yield Sampled(step.index, len(request.levels) - 1, latents[0], step.denoised[0])
        # The bound velocity holds the network, which the decoder's memory is meant to replace.
        del denoiser, velocity, steps
        yield from self._decode(request, recipe, latents, clock)

    def _start(self, request: Request, noise: Noise, clock: Clock) -> tuple[Array, Array | None]:
        """Latents at the first noise level: noise, or initial audio with noise over it; and those of the initial audio.

        The order of the draws is the reference's: the start, the encoder's, and after them one for each step.
        """
        start = noise.normal((1, self.manifest.latents.channels, request.window))
        if request.init_audio is None:
            return start, None
        level = request.levels[0]
        with self._use(self._encoder, clock) as encoder, clock("encoding"):
            encoded = encoder(request.init_audio[None], noise)
        blended: Array = (1 - level) * encoded + level * start
        return blended, encoded

    def _weights(self, request: Request, *, latent: bool) -> Array:
        """How much of each latent, or of each audio frame, is kept."""
        rate, ratio = self.manifest.audio.sample_rate, self.manifest.latents.ratio
        seconds = request.frames / rate
        if latent:
            per_second = rate / ratio
            return weights(request.kept or (), request.window, per_second, LATENT_RAMP / per_second, seconds)
        return weights(request.kept or (), request.window * ratio, rate, AUDIO_RAMP, seconds)

    def _condition(self, request: Request, clock: Clock) -> tuple[Conditioning, Conditioning | None]:
        numbers = {name: [value] for name, value in request.numbers.items()}
        with self._use(self._conditioner, clock) as conditioner, clock("conditioning"):
            positive = conditioner([request.prompt], numbers)
            if request.negative_prompt is None or request.cfg_scale == 1:
                return positive, None
            return positive, conditioner([request.negative_prompt], numbers)

    def _decode(self, request: Request, recipe: Recipe, latents: Array, clock: Clock) -> Iterator[Event]:
        frames = request.frames + request.overlap if request.trim else request.window * self.manifest.latents.ratio
        pieces: list[Array] = []
        original = None if request.kept is None else request.init_audio
        share = None if original is None else self._weights(request, latent=False)
        start = 0
        with self._use(self._decoder, clock) as decoder:
            total = decoder.pieces(frames)
            for (audio,) in clock.iterate("decoding", decoder(latents, frames)):
                end = start + audio.shape[1]
                piece = audio
                if original is not None and share is not None:
                    piece = share[start:end] * original[:, start:end] + (1 - share[start:end]) * audio
                yield Decoded(len(pieces), total, piece)
                pieces.append(piece)
                start = end
        samples = np.concatenate(pieces, axis=1)
        if request.trim and request.overlap:
            samples = joined(samples, request.frames)
        samples = request.finish(samples, self.manifest.audio.sample_rate)
        yield Finished(Clip(samples, self.manifest.audio.sample_rate, request.seed, latents[0], clock.timings(), recipe))

    @contextlib.contextmanager
    def _use(self, stage: Stage[T], clock: Clock) -> Iterator[T]:
        with contextlib.ExitStack() as stack:
            with clock("load"):
                value = stack.enter_context(stage.use())
            yield value
