"""How far decoded audio is from what was encoded, as losses that can be minimised."""

from __future__ import annotations

import math
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from models.sao_tiny.signals import SAMPLE_RATE

BANDS = {4096: 0, 2048: 40, 512: 24, 128: 0}
"""Windows of the spectra, and how many wide bands of each are compared."""


CODED = 4000.0
"""Hertz up to which latents can follow a waveform. Above it, a wave in any other phase would cost more than silence."""


class Reconstruction(torch.nn.Module):
    """How far decoded audio is from what was encoded.

    "stft" compares magnitudes at several resolutions, relatively and as logarithms (Yamamoto et al., "Parallel WaveGAN",
    2020), which count by the square root of the louder of the two, because most of a spectrum is silence and a tone is a few
    bins of it. "mel" compares the power in wide bands, which noise has in common with other noise of its kind.
    "wave" is the power of the difference where the waveform can be followed, relative to that of the excerpt; below -30 dB of
    full scale to those -30 dB, because silence would rule the sum. Half of it counts as a logarithm, so that tones that are
    nearly right go on to improve beside noise that never will be.
    """

    def __init__(self) -> None:
        super().__init__()
        for size, bands in BANDS.items():
            window = torch.hann_window(size)
            self.register_buffer(f"window_{size}", window / window.square().sum().sqrt())
            if bands:
                self.register_buffer(f"bands_{size}", mel_bands(size, bands))

    def forward(self, decoded: Tensor, audio: Tensor, floor: Tensor | float) -> dict[str, Tensor]:
        """Compare audio [b, channels, frames], on top of noise of the power `floor`."""
        missing, whole = (low_power(x.flatten(0, 1)) for x in (decoded - audio, audio))
        share = missing / (whole + 1e-3)
        wave = 0.5 * share + 0.5 * (1 + 100 * share).log() / math.log(101)
        stft, mel = torch.zeros((), device=audio.device), torch.zeros((), device=audio.device)
        for size, bands in BANDS.items():
            window = getattr(self, f"window_{size}")
            ours, theirs = (_power(x.flatten(0, 1), window) for x in (decoded, audio))
            a, b = (ours + floor).sqrt(), (theirs + floor).sqrt()
            difference = (a - b).square().sum((1, 2)).sqrt() / (b.square().sum((1, 2)).sqrt() + 0.3)
            distance = (a.log() - b.log()).abs()
            with torch.no_grad():
                weight = torch.maximum(a, b).sqrt()
                weight = weight / weight.mean((1, 2), keepdim=True)
            stft = stft + difference.mean() + (weight * distance).mean() + 0.2 * distance.mean()
            if bands:
                matrix = getattr(self, f"bands_{size}").T
                mel = mel + ((ours @ matrix + floor).log() - (theirs @ matrix + floor).log()).abs().mean()
        return {"stft": stft / len(BANDS), "mel": 0.5 * mel, "wave": wave.mean()}


def low_power(signal: Tensor) -> Tensor:
    """Mean power of signals [n, frames] below `CODED` or so, [n]."""
    frames = signal.shape[-1]
    power = torch.view_as_real(torch.fft.rfft(signal)).square().sum(-1)
    hertz = torch.arange(power.shape[-1], device=signal.device) * (SAMPLE_RATE / frames)
    return 2 / frames**2 * (power / (1 + (hertz / CODED) ** 4)).sum(-1)


def _power(signal: Tensor, window: Tensor) -> Tensor:
    return cast(Tensor, PowerSpectra.apply(signal, window))  # type: ignore[no-untyped-call]


class PowerSpectra(torch.autograd.Function):
    """Power spectra of overlapping frames, [n, samples] to [n, frames, bins], a quarter of the window apart.

    The gradient is written out, because it is one real transform back where autograd's own takes a complex one twice as long.
    """

    @staticmethod
    def forward(context: Any, signal: Tensor, window: Tensor) -> Tensor:
        """The spectra."""
        size = len(window)
        padded = F.pad(signal, (size // 2, size // 2))
        spectrum = torch.fft.rfft(padded.unfold(-1, size, size // 4) * window)
        context.save_for_backward(spectrum if signal.requires_grad else None, window)
        return torch.view_as_real(spectrum).square().sum(-1)

    @staticmethod
    def backward(context: Any, *gradients: Any) -> Any:
        """The gradient at the signal; the window has none."""
        spectrum, window = context.saved_tensors
        size = len(window)
        hop = size // 4
        weighted = size * gradients[0] * spectrum
        weighted[..., 0] *= 2
        weighted[..., -1] *= 2
        pieces = (torch.fft.irfft(weighted, size) * window).unflatten(-1, (4, hop))
        count = pieces.shape[1]
        total = pieces.new_zeros(len(pieces), count + 3, hop)
        for index in range(4):
            total[:, index : index + count] += pieces[:, :, index]
        return total.flatten(1)[:, size // 2 : -(size // 2)], None


def mel_bands(size: int, bands: int) -> Tensor:
    """Triangles on the mel axis (2595 log10(1 + f / 700)) as means over bins: [bands, size // 2 + 1]."""
    edges = 700 * (10 ** (torch.linspace(0, 2595 * np.log10(1 + SAMPLE_RATE / 2 / 700), bands + 2) / 2595) - 1)
    bins = torch.arange(size // 2 + 1) * SAMPLE_RATE / size
    low, centre, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    width = SAMPLE_RATE / size
    triangles = torch.minimum((bins - low) / (centre - low).clamp(min=width), (high - bins) / (high - centre).clamp(min=width))
    triangles = triangles.clamp(min=0)
    return F.normalize(triangles, p=1, dim=1)
