"""`load` and `Engine`: a request is planned, and the plan is carried out."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Unpack, cast

import numpy as np

from sao_onnx.arrays import Array
from sao_onnx.audio.files import file_digest
from sao_onnx.audio.initial import read_part
from sao_onnx.bundle.bundle import Bundle, open_bundle
from sao_onnx.bundle.manifest import Manifest, Precision
from sao_onnx.bundle.names import built_in_folder, default_name, find
from sao_onnx.clip import Clip
from sao_onnx.errors import BundleError, BundleNotFoundError, RequestError, SaoOnnxWarning, memory_errors
from sao_onnx.events import Event, Finished
from sao_onnx.forks import in_one_process
from sao_onnx.option import finite_number, shown, whole_number
from sao_onnx.places import expand_home
from sao_onnx.planning.check import check
from sao_onnx.planning.initial import initial_latents
from sao_onnx.planning.plan import Plan
from sao_onnx.planning.planner import plan
from sao_onnx.provenance import Provenance
from sao_onnx.request import Options, Request, initial_file
from sao_onnx.running.asked import Asked, as_request, check_settings, several, takes_options
from sao_onnx.running.many import many
from sao_onnx.running.progress import MeasuredPace
from sao_onnx.running.runner import run
from sao_onnx.running.stages import Stages
from sao_onnx.runtime.sessions import CONFINING, SessionFactory, confines_graphs, runtime
from sao_onnx.runtime.tuning import Tuning, default_tuning, saved_tuning, tuning_problem, within_processors
from sao_onnx.version import __version__
from sao_onnx.warn import warn

if TYPE_CHECKING:
    from sao_onnx.running.awaited import Awaited


def load(
    model: str | Path | None = None,
    *,
    precision: Precision | None = None,
    threads: int | None = None,
    providers: Sequence[str] | None = None,
    session_options: Mapping[str, str] | None = None,
    keep_loaded: bool = True,
    tuned: bool | Tuning = True,
    verify: bool | None = None,
) -> Engine:
    """Open a bundle for generating. Its graphs are opened when they are first needed.

    Args:
        model: Folder of a bundle, or a name that `sao-onnx models` lists; by default the one that `sao-onnx models default`
            chose, or else sao-tiny, the small demonstrator that the package brings.
        precision: One that the bundle holds, for all parts; by default its best.
        threads: Threads of each run; by default, and at most, every processor that this process may use.
        providers: ONNX Runtime execution providers, the preferred first; by default the CPU's. Those that are not there are
            left out with a warning.
        session_options: Session configuration entries of ONNX Runtime, over the engine's own.
        keep_loaded: Keep the graphs of every stage for the next clip. Without it each stage is let go after use, and memory
            peaks at the largest stage instead of their sum.
        tuned: Where neither a precision nor threads are given, use what `sao-onnx tune` found for this bundle on this machine;
            or the tuning that is given, as a `Provenance` names it.
        verify: Compare the digests of files with the manifest before they are used for the first time; by default, unless the
            environment variable `SAO_ONNX_VERIFY` is 0. What was found is remembered, so it costs time once for a bundle.

    Raises:
        BundleNotFoundError: There is no bundle.
        BundleError: It is damaged, or of another version.
        RequestError: `threads` is less than 1, an argument is of another type, or the bundle lacks the precision.
    """
    check_settings(model, precision, threads, providers, session_options)
    try:
        folder, model = find(model), default_name() if model is None else model
        bundle = open_bundle(folder, verify=verify)
    except (OSError, ValueError) as error:
        if isinstance(error, BundleError):
            raise
        raise BundleNotFoundError(f"{shown(model)} can be the name of no folder: {shown(str(error))}") from error
    _warn_of_runtime(bundle.folder)
    best = bundle.precision(precision)
    if isinstance(tuned, Tuning):
        if problem := tuning_problem(tuned, bundle):
            raise RequestError(f"the tuning cannot be used: {problem}")
        tuning: Tuning | None = tuned
    elif not isinstance(tuned, bool):
        raise RequestError(f"tuned is {shown(tuned)}, expected True, False or a Tuning")
    else:
        tuning = saved_tuning(bundle) if tuned and precision is None and threads is None else None
    tuning = None if tuning is None else within_processors(tuning)
    options = ({} if tuning is None else tuning.options) | dict(session_options or {})
    factory = SessionFactory(threads if tuning is None else tuning.threads, providers, options)
    again: dict[str, Any] = {
        "model": _sent(model, bundle.folder),
        "precision": best,
        "threads": threads,
        "providers": None if providers is None else tuple(providers),
        "session_options": None if session_options is None else dict(session_options),
        "keep_loaded": keep_loaded,
        "tuned": tuning or False,
    }
    return Engine(bundle, best, factory, tuning or default_tuning(bundle, best, factory.threads), keep_loaded, again)


def _warn_of_runtime(folder: Path) -> None:
    """Say where bundles are not kept to their folder, but for those of the package."""
    if not confines_graphs() and not folder.is_relative_to(built_in_folder()):
        found = f"ONNX Runtime {runtime()['onnxruntime']} lets a bundle read your files and what is in memory"
        warn(
            f"{found}; open only bundles that you made or trust, or use {'.'.join(map(str, CONFINING))} or later",
            SaoOnnxWarning,
        )


def _sent(model: str | Path | None, folder: Path) -> str | None:
    """What finds the model again from another working folder: its name, or else its folder's whole path."""
    named = model is None or folder != expand_home(model)
    return (None if model is None else str(model)) if named else str(folder.absolute())


def opened_again(fingerprint: str, arguments: Mapping[str, Any]) -> Engine:
    """An engine that was pickled, where it arrives."""
    engine = load(**arguments)
    if engine.bundle.fingerprint != fingerprint:
        raise BundleError(
            f"{engine.bundle.folder} is another bundle (fingerprint {engine.bundle.fingerprint}) than the one that the engine "
            f"was made with ({fingerprint}); copy that one here"
        )
    return engine


class Engine:
    """A model that is ready to generate. Safe to use from several threads at once. Made by `load`.

    As a context manager, it lets go of its graphs at the end of the block.

    Pickled or copied, it is what it was loaded with: where it arrives, it opens the same bundle and loads graphs when they are
    needed. Without the bundle, that is a `BundleNotFoundError`; another one at its place is a `BundleError`.

    Attributes:
        bundle: The model.
        precision: It runs in, except for the parts that `tuning` names.
        tuning: How its parts are run.
        again: Arguments with which `load` opens it again, from any working folder.
    """

    def __init__(
        self,
        bundle: Bundle,
        precision: Precision,
        factory: SessionFactory,
        tuning: Tuning,
        keep_loaded: bool,
        again: Mapping[str, Any],
    ) -> None:
        self.bundle = bundle
        self.precision = precision
        self.tuning = tuning
        self._factory = factory
        self._stages = Stages(bundle, precision, tuning, factory, keep_loaded=keep_loaded)
        self._pace = MeasuredPace()
        self.again = again

    def __reduce__(self) -> tuple[Any, ...]:
        return opened_again, (self.bundle.fingerprint, self.again)

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.unload()

    def __repr__(self) -> str:
        return f"Engine({self.manifest.model.name!r}, {self.precision}, {self.threads} threads)"

    @property
    def manifest(self) -> Manifest:
        """What the bundle says of itself."""
        return self.bundle.manifest

    @property
    def threads(self) -> int:
        """Threads of each run."""
        return self._factory.threads

    @takes_options
    def generate(self, prompt: str | Request, **options: Unpack[Options]) -> Clip:
        """Generate a clip.

        Args:
            prompt: A description of the sound; or a whole request.
            **options: The fields of `Request`, which describes them; over those of a request that is given.

        Raises:
            RequestError: An option is unknown, outside its range, or does not fit the model or the others.
            AudioFileError: The initial audio cannot be read.
            BundleError: A graph cannot be loaded.
            NumericalError: A network returned values that are not finite.
        """
        last = deque(self.stream(prompt, **options), maxlen=1)[0]
        return cast(Finished, last).clip

    @takes_options
    async def agenerate(self, prompt: str | Request, **options: Unpack[Options]) -> Clip:
        """Generate a clip in asyncio: `generate`, with the cancelling and the free event loop of `astream`."""
        async for event in self.astream(prompt, **options):
            last = event  # Only the last: events hold arrays.
        return cast(Finished, last).clip

    @takes_options
    def stream(self, prompt: str | Request, **options: Unpack[Options]) -> Generator[Event, None, None]:
        """Generate a clip event by event. Arguments and errors are those of `generate`; the request is checked at once.

        Nothing runs between two events, so a consumer that stops iterating stops the work; `close` ends it at once.
        """
        return self.run(self.plan(as_request(prompt, options)))

    @takes_options
    def astream(self, prompt: str | Request, **options: Unpack[Options]) -> Awaited[Event]:
        """Generate a clip event by event in asyncio, with `async for`. Arguments and events are those of `stream`.

        The work is done in a thread of its own, and the event loop stays free. Where the task is cancelled, or runs into a
        timeout, the step or the piece of audio that is being made is done first, and nothing goes on afterwards. Leaving the
        loop ends the work, too; `aclose`, or `async with`, waits until it has ended. Streams may run side by side.

        Raises:
            RequestError: At once, for an option that is unknown or outside its range. Other errors of `generate` are raised by
                the first event that is awaited, because initial audio is read in the thread.
        """
        # asyncio takes a while to import, and is nothing to those who do not use it.
        from sao_onnx.running.awaited import Awaited

        asked = as_request(prompt, options)

        def events() -> Generator[Event, None, None]:
            yield from self.run(self.plan(asked))

        return Awaited(events())

    def plan(self, request: str | Request) -> Plan:
        """What the engine would do for a request: windows, sigmas, seeds, and all else that is decided before any work.

        Raises:
            RequestError: As for `generate`.
            AudioFileError: The initial audio cannot be read.
        """
        asked = as_request(request, {})
        planned = plan(self.manifest, asked, read_part)
        file = initial_file(asked)
        return planned if file is None else replace(planned, initial_digest=file_digest(file))

    def run(self, planned: Plan) -> Generator[Event, None, None]:
        """Carry out a plan that was made for this model, here or on another machine. Yields what `stream` yields.

        Raises:
            RequestError: At once, for a plan of a model of another kind, or one that was changed to what no model can do.
        """
        check(planned, self.manifest)
        return self._run(planned)

    def _run(self, planned: Plan) -> Generator[Event, None, None]:
        with memory_errors():
            yield from in_one_process(run(planned, self._stages, self._provenance(planned), self._pace))

    @takes_options
    def generate_many(
        self, requests: Iterable[Asked], *, jobs: int = 1, **options: Unpack[Options]
    ) -> Generator[Clip, None, None]:
        """Generate several clips, in order.

        At most `jobs` clips are begun and not yet yielded, so a consumer that stops iterating leaves the others undone. All
        jobs share the graphs of the engine; the threads of `load` are for each of them.

        Args:
            requests: Prompts, requests, or prompts with their options.
            jobs: Clips at the same time.
            **options: The fields of `Request`, for all; those of a request itself come first. `seed` is that of the first clip,
                and each following clip has the next one.

        Raises:
            RequestError: `jobs` is less than 1, or `requests` is a single one. Others are those of `generate`, raised where the
                clip would have come.
        """
        if whole_number("jobs", jobs) < 1:
            raise RequestError(f"jobs is {jobs}, expected at least 1")
        # Here, and not with the first clip, so that mistakes are found at once.
        asked = several(requests, options)
        results = in_one_process(many(lambda one: self.generate(one()), asked, jobs, in_order=True))
        return (result() for _, result in results)

    def decode(self, latents: Array, seconds: float | None = None) -> Array:
        """Audio of latents, for listening to an estimate (`Sampled.denoised`) before sampling is done.

        The first seconds cost their share of the whole and no more.

        Args:
            latents: float32 [latent channels, n].
            seconds: As much as is wanted, from the start; by default all.

        Returns:
            float32 [channels, frames], not normalized.

        Raises:
            RequestError: The latents are not of this shape, or `seconds` is not more than 0.
        """
        latents = initial_latents(self.manifest, latents)
        frames = latents.shape[1] * self.manifest.latents.ratio
        if seconds is not None:
            frames = round(min(frames, finite_number("seconds", seconds) * self.manifest.audio.sample_rate))
            if frames < 1:
                raise RequestError(f"seconds is {seconds}, expected more than 0")
        with self._stages.decoder.use() as decoder:
            pieces = list(decoder(latents[None], frames))
        audio: Array = np.concatenate(pieces, axis=-1)[0]
        return audio

    def unload(self) -> None:
        """Let go of every graph, of those in use when they are no longer used. They are opened again when needed."""
        self._stages.unload()

    def close(self) -> None:
        """The old name of `unload`."""
        warn("Engine.close is now Engine.unload", DeprecationWarning)
        self.unload()

    def _provenance(self, planned: Plan) -> Provenance:
        return Provenance(
            prompt=planned.prompt,
            seed=planned.seed,
            model=self.manifest.model.name,
            fingerprint=self.bundle.fingerprint,
            precision=self.precision,
            tuning=self.tuning,
            version=__version__,
            options=dict(planned.recorded),
            init_audio=planned.initial_name,
            init_sha256=planned.initial_digest,
        )
