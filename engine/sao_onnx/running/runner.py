"""Carries out a plan over the stages of a model, window by window, and yields an event after each piece of work.

Nothing runs between two events, so a consumer that stops iterating stops the work. There is no rule about options in here: what
they mean has become a plan.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator

import numpy as np

from sao_onnx.arrays import Array
from sao_onnx.audio.loop import joined
from sao_onnx.audio.prepare import fit
from sao_onnx.bundle.manifest import StageName
from sao_onnx.clip import Clip
from sao_onnx.events import Conditioned, Decoded, Event, Finished, Sampled
from sao_onnx.planning.plan import Plan, Window
from sao_onnx.provenance import Provenance
from sao_onnx.running.clock import Clock
from sao_onnx.running.progress import Measured, MeasuredPace, Progress
from sao_onnx.running.stages import Stages, timed
from sao_onnx.sampling.inpainting import inpainting
from sao_onnx.sampling.noise import Noise
from sao_onnx.sampling.objectives import OBJECTIVES
from sao_onnx.sampling.samplers import SAMPLERS
from sao_onnx.stages.conditioning import Conditioning


def run(plan: Plan, stages: Stages, provenance: Provenance, pace: MeasuredPace) -> Generator[Event, None, None]:
    """Carry out a plan.

    Args:
        plan: What is to be done.
        stages: Of the model that it was made for.
        provenance: For the clip.
        pace: How long parts of a clip take, for the fraction that each event tells. It learns from this clip.

    Raises:
        BundleError: A graph cannot be loaded.
        NumericalError: A network returned values that are not finite.
    """
    return _Run(plan, stages, pace).events(provenance)


def _nothing() -> None:
    """Nothing is waited for."""


class _Run:
    def __init__(self, plan: Plan, stages: Stages, pace: MeasuredPace) -> None:
        self._plan, self._stages, self._pace = plan, stages, pace
        self._objective = OBJECTIVES[plan.objective]
        self._clock, self._progress = Clock(), Progress(plan, pace.now(), stages.loads(len(plan.windows)))
        self._measured = Measured()
        self._window = 0
        self._counted: set[tuple[int, StageName]] = set()

    def events(self, provenance: Provenance) -> Generator[Event, None, None]:
        plan = self._plan
        audio = None if plan.recording is None else plan.recording.array
        for index, window in enumerate(plan.windows):
            self._window = index
            initial = None if audio is None else fit(audio[:, window.start :], window.latent_count * plan.ratio)
            with contextlib.ExitStack() as ahead:
                # With initial audio the encoder comes before the denoiser, and needs the memory.
                if initial is None and self._stages.opens_ahead():
                    wait = ahead.enter_context(self._stages.denoiser.ahead())
                else:
                    wait = _nothing
                positive, negative = self._condition(window)
                # Nothing runs between two events, so it is waited for now.
                with self._clock("load"):
                    wait()
                if wait is not _nothing:
                    self._loaded("denoiser")
                yield Conditioned(window.steps, index, len(plan.windows), self._progress.conditioned())
                latents = yield from self._sample(window, initial, positive, negative, ahead)
            made = yield from self._decode(window, initial, latents)
            audio = whole = made if audio is None else np.concatenate([audio[:, : window.start], made], axis=1)
        samples = plan.finish(whole, plan.sample_rate)
        timings = self._clock.timings()
        self._pace.learn(plan, timings, self._measured)
        yield Finished(Clip(samples, plan.sample_rate, plan.seed, latents[0], timings, provenance))

    def _loaded(self, stage: StageName) -> None:
        if (self._window, stage) in self._counted:
            return
        self._counted.add((self._window, stage))
        size = self._progress.loaded(self._window, stage)
        self._measured = self._measured.with_load(size)

    def _condition(self, window: Window) -> tuple[Conditioning, Conditioning | None]:
        plan = self._plan
        numbers = {name: [value] for name, value in window.numbers.items()}
        with timed(self._stages.conditioner, self._clock) as conditioner, self._clock("conditioning"):
            self._loaded("conditioner")
            positive = conditioner([plan.prompt], numbers)
            if plan.guidance is None or plan.guidance.negative_prompt is None:
                return positive, None
            return positive, conditioner([plan.guidance.negative_prompt], numbers)

    def _sample(
        self,
        window: Window,
        initial: Array | None,
        positive: Conditioning,
        negative: Conditioning | None,
        ahead: contextlib.ExitStack,
    ) -> Generator[Event, None, Array]:
        """Clean latents [1, channels, n]. `ahead` holds the denoiser until it is used."""
        plan, objective = self._plan, self._objective
        noise, sigmas = Noise(window.seed), np.array(window.sigmas, np.float32)
        latents, known = self._start(window, initial, noise, sigmas[0])
        with timed(self._stages.denoiser, self._clock) as denoiser:
            # From now on it is there for this block alone, whose end lets go of it.
            ahead.close()
            self._loaded("denoiser")
            if plan.guidance is None:
                predict = denoiser.prediction(positive)
            else:
                predict = denoiser.guided(positive, negative, plan.guidance.scale)
            if known is not None and window.kept is not None:
                predict = inpainting(predict, objective, known, plan.latent_weights(window))
            shape = latents.shape
            steps = SAMPLERS[plan.sampler](predict, objective, latents, sigmas, lambda: noise.normal(shape))
            for step in self._clock.iterate("sampling", steps):
                latents = step.latents
                fraction = self._progress.sampled(window.latent_count)
                yield Sampled(step.index, window.steps, latents[0], step.denoised[0], fraction)
            # The bound functions hold the network, whose memory is meant for the decoder.
            del denoiser, predict, steps
        return latents

    def _start(self, window: Window, initial: Array | None, noise: Noise, sigma: np.float32) -> tuple[Array, Array | None]:
        """Latents at the first sigma, and the clean ones that they were made of, if there are any; both [1, channels, n].

        The order of the draws is the reference's: the noise of the start, that of the encoder, and then one for each step.
        """
        if initial is not None:
            start = noise.normal((1, self._plan.latent_channels, window.latent_count))
            with timed(self._stages.encoder, self._clock) as encoder, self._clock("encoding"):
                self._loaded("encoder")
                known: Array = encoder(initial[None], noise)
            self._progress.encoded(window.latent_count)
        elif self._plan.latents is not None:
            known = fit(self._plan.latents.array, window.latent_count)[None]
            start = noise.normal(known.shape)
        else:
            return noise.normal((1, self._plan.latent_channels, window.latent_count)), None
        return self._objective.add_noise(known, start, sigma), known

    def _decode(self, window: Window, initial: Array | None, latents: Array) -> Generator[Event, None, Array]:
        """Audio of a window [channels, frames], with what is kept of its initial audio in place."""
        weights = None if initial is None or window.kept is None else self._plan.audio_weights(window)
        pieces: list[Array] = []
        start = 0
        with timed(self._stages.decoder, self._clock) as decoder:
            self._loaded("decoder")
            count = decoder.pieces(window.decoded)
            for (made,) in self._clock.iterate("decoding", decoder(latents, window.decoded)):
                end = start + made.shape[1]
                piece = made
                if initial is not None and weights is not None:
                    piece = weights[start:end] * initial[:, start:end] + (1 - weights[start:end]) * made
                length = (end - start) / self._plan.ratio
                if not pieces:
                    self._measured = self._measured.with_first_piece(self._clock.last, length)
                fraction = self._progress.decoded(length, 0 if pieces else window.latent_count)
                yield Decoded(len(pieces), count, piece, fraction)
                pieces.append(piece)
                start = end
        audio = np.concatenate(pieces, axis=1)
        return joined(audio, window.frames) if window.tail else audio
