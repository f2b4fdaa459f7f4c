"""`load` and `Engine`: a request is planned, and the plan is carried out."""

from __future__ import annotations

import functools
import inspect
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from types import TracebackType
from typing import ParamSpec, TypeVar, Unpack, cast

import numpy as np

from sao_onnx.arrays import Array
from sao_onnx.audio.files import file_digest
from sao_onnx.audio.initial import read_part
from sao_onnx.bundle.bundle import Bundle, open_bundle
from sao_onnx.bundle.manifest import Manifest, Precision
from sao_onnx.bundle.names import find
from sao_onnx.clip import Clip
from sao_onnx.errors import RequestError
from sao_onnx.events import Event, Finished
from sao_onnx.option import finite_number, whole_number
from sao_onnx.planning.plan import Plan
from sao_onnx.planning.planner import plan
from sao_onnx.provenance import Provenance
from sao_onnx.request import Options, Request, initial_file, with_present_names
from sao_onnx.running.many import in_order
from sao_onnx.running.progress import MeasuredPace
from sao_onnx.running.runner import run
from sao_onnx.running.stages import Stages
from sao_onnx.runtime.sessions import SessionFactory
from sao_onnx.runtime.tuning import Tuning, default_tuning, saved_tuning, tuning_problem, within_processors
from sao_onnx.version import __version__
from sao_onnx.warn import warn

P = ParamSpec("P")
T = TypeVar("T")


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
        model: Folder of a bundle, or a name that `sao-onnx models` lists; by default sao-tiny, the small demonstrator that the
            package brings.
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
        RequestError: `threads` is less than 1, or the bundle lacks the precision.
    """
    bundle = open_bundle(find(model), verify=verify)
    best = bundle.precision(precision)
    if isinstance(tuned, Tuning):
        if problem := tuning_problem(tuned, bundle):
            raise RequestError(f"the tuning cannot be used: {problem}")
        tuning: Tuning | None = tuned
    else:
        tuning = saved_tuning(bundle) if tuned and precision is None and threads is None else None
    tuning = None if tuning is None else within_processors(tuning)
    options = ({} if tuning is None else tuning.options) | dict(session_options or {})
    factory = SessionFactory(threads if tuning is None else tuning.threads, providers, options)
    return Engine(bundle, best, factory, tuning or default_tuning(bundle, best, factory.threads), keep_loaded)


def _takes_options(method: Callable[P, T]) -> Callable[P, T]:
    """Show the fields of `Request` as the keyword arguments of a method, in place of its `**options`."""

    @functools.wraps(method)
    def checked(*arguments: P.args, **options: P.kwargs) -> T:
        return method(*arguments, **options)

    signature = inspect.signature(method)
    parameters = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
    parameters += [
        inspect.Parameter(f.name, inspect.Parameter.KEYWORD_ONLY, default=f.default, annotation=f.type)
        for f in fields(Request)[1:]
    ]
    checked.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return checked


class Engine:
    """A model that is ready to generate. Safe to use from several threads at once. Made by `load`.

    As a context manager, it lets go of its graphs at the end of the block.

    Attributes:
        bundle: The model.
        precision: It runs in, except for the parts that `tuning` names.
        tuning: How its parts are run.
    """

    def __init__(
        self, bundle: Bundle, precision: Precision, factory: SessionFactory, tuning: Tuning, keep_loaded: bool
    ) -> None:
        self.bundle = bundle
        self.precision = precision
        self.tuning = tuning
        self._factory = factory
        self._stages = Stages(bundle, precision, tuning, factory, keep_loaded=keep_loaded)
        self._pace = MeasuredPace()

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

    @_takes_options
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

    @_takes_options
    def stream(self, prompt: str | Request, **options: Unpack[Options]) -> Generator[Event, None, None]:
        """Generate a clip event by event. Arguments and errors are those of `generate`; the request is checked at once.

        Nothing runs between two events, so a consumer that stops iterating stops the work; `close` ends it at once.
        """
        return self.run(self.plan(_request(prompt, options)))

    def plan(self, request: str | Request) -> Plan:
        """What the engine would do for a request: windows, sigmas, seeds, and all else that is decided before any work.

        Raises:
            RequestError: As for `generate`.
            AudioFileError: The initial audio cannot be read.
        """
        asked = _request(request, {})
        planned = plan(self.manifest, asked, read_part)
        file = initial_file(asked)
        return planned if file is None else replace(planned, initial_digest=file_digest(file))

    def run(self, planned: Plan) -> Generator[Event, None, None]:
        """Carry out a plan that was made for this model, here or on another machine. Yields what `stream` yields."""
        yield from run(planned, self._stages, self._provenance(planned), self._pace)

    @_takes_options
    def generate_many(
        self, requests: Iterable[str | Request | tuple[str, Options]], *, jobs: int = 1, **options: Unpack[Options]
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
        if jobs < 1:
            raise RequestError(f"jobs is {jobs}, expected at least 1")
        if isinstance(requests, (str, Request)):
            raise RequestError(
                f"requests is one {type(requests).__name__}, expected several in a list; for one clip use generate"
            )
        # Here, and not with the first clip, so that mistakes are found at once.
        seeded = _seeded(requests, cast(Options, with_present_names(options)))
        return (result() for _, result in in_order(lambda one: self.generate(one[0], **one[1]), seeded, jobs))

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
        channels, ratio = self.manifest.latents.channels, self.manifest.latents.ratio
        if latents.ndim != 2 or len(latents) != channels or not latents.shape[1]:
            raise RequestError(f"latents have shape {latents.shape}, expected ({channels}, n)")
        frames = latents.shape[1] * ratio
        if seconds is not None:
            frames = min(frames, round(finite_number("seconds", seconds) * self.manifest.audio.sample_rate))
            if frames < 1:
                raise RequestError(f"seconds is {seconds}, expected more than 0")
        with self._stages.decoder.use() as decoder:
            pieces = list(decoder(np.ascontiguousarray(latents[None], np.float32), frames))
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


def _request(prompt: str | Request, options: Options) -> Request:
    if not isinstance(prompt, Request):
        return Request.from_options(prompt, options)
    return Request.from_options(prompt.prompt, {**prompt.given(), **options}) if options else prompt


def _seeded(requests: Iterable[str | Request | tuple[str, Options]], options: Options) -> Iterator[tuple[str, Options]]:
    """Prompts with their options and those for all, and seeds that count on from a first one; not yet checked."""
    seed = options.get("seed")
    first = None if seed is None else whole_number("seed", seed)
    for index, given in enumerate(requests):
        prompt, own = given if isinstance(given, tuple) else (given, cast(Options, {}))
        base = prompt.given() if isinstance(prompt, Request) else {}
        text = prompt.prompt if isinstance(prompt, Request) else prompt
        counted = {} if first is None else {"seed": first + index}
        yield text, cast(Options, {**options, **counted, **base, **own})
