"""Trains the autoencoder: audio to latents and back. Then its decoder alone: back from latents that are not quite right."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from models.sao_tiny.data import pool
from models.sao_tiny.halves import half
from models.sao_tiny.lapped import begin
from models.sao_tiny.loop import Muon, Schedule, fit, fused
from models.sao_tiny.requests import WINDOW
from models.sao_tiny.signals import SAMPLE_RATE
from sao_onnx_convert.config import ModelConfig
from sao_onnx_convert.networks.autoencoder import Autoencoder

SOUNDS = 4000
BATCH = 10
CROP = 16 * 2048
SCHEDULE = Schedule(steps=4500, rate=1.0, warmup=50)
SPECTRUM_FROM, SPECTRUM_AT = 1300, 2200
"""Steps between which the spectrum comes to count as much as the waveform."""

EARLY_FLOOR, LATE_FLOOR = -5.5, -7.0
"""Powers of ten below which a spectrum is silence, at first and in the end."""

LATE_WAVE, LATE_SPECTRUM = 0.7, 0.6
"""What the waveform and the spectrum count in the end."""

RATE, MATRIX_RATE = 1e-3, 1.5e-3
KL_WEIGHT = 0.03

STEADY = Schedule(steps=2500, rate=0.5, warmup=50)
FAINTEST, LOUDEST = 0.01, 0.6
"""Noise that the decoder learns to ignore, on latents of `LATENT_SIZE`."""

LATENT_SIZE = 2.0
"""Of every channel, as a root mean square over excerpts. With 1, drums would drown in noise at most of the eight levels."""


def train(config: ModelConfig, folder: Path, device: torch.device, say: Callable[[str], None]) -> Autoencoder:
    """Train that of one channel, or finish a training that was cut off."""
    sounds = pool(folder, SOUNDS)
    pretransform = config.model.pretransform.config
    examples = crops(np.random.default_rng(0), sounds, 192)
    torch.manual_seed(0)
    model = half(pretransform)
    begin(model, examples, pretransform.encoder.config.strides)
    model.to(device)
    reconstruction = Reconstruction().to(device)
    encode, decode = fused(model.encode), fused(model.decoder)

    def losses(step: int) -> dict[str, Tensor]:
        audio = crops(np.random.default_rng(step), sounds, BATCH).to(device)
        with torch.autocast(device.type, torch.bfloat16):
            mean, stdev = encode(audio)
            decoded = decode(mean + stdev * torch.randn_like(mean))
        mean, stdev = mean.float(), stdev.float()
        divergence = 0.5 * (mean.square() + stdev.square() - 1 - 2 * stdev.log()).mean()
        late = min(1.0, max(0.0, (step - SPECTRUM_FROM) / (SPECTRUM_AT - SPECTRUM_FROM)))
        # What is too quiet to matter at first would rule the gradient: there is much silence.
        floor = 10 ** (EARLY_FLOOR + (LATE_FLOOR - EARLY_FLOOR) * late)
        found: dict[str, Tensor] = reconstruction(decoded.float(), audio, floor)
        # First the waveform, which tells the encoder what to keep. The spectrum alone would rather have silence than a wave in
        # the wrong phase; in the end it brings noise to its level.
        wave, spectrum = 2.0 + (LATE_WAVE - 2.0) * late, 0.3 + (LATE_SPECTRUM - 0.3) * late
        loss = wave * found["wave"] + spectrum * (found["stft"] + found["mel"])
        return found | {"kl": divergence.detach(), "loss": loss + KL_WEIGHT * divergence}

    fit("autoencoder", folder, model, _optimizers(model), SCHEDULE, losses, say)
    model.eval().requires_grad_(False)
    standardize(model, examples.to(device))
    return model


def steady(model: Autoencoder, folder: Path, device: torch.device, say: Callable[[str], None]) -> None:
    """Train the decoder, in place, to decode what the transformer makes: latents with errors, most of all in silence.

    An error of a hundredth of the power is a noise 20 dB below the sound, and behind its end there should be none. The encoder
    stays as it is, and so do latents.
    """
    sounds = pool(folder, SOUNDS)
    torch.manual_seed(0)
    decoder = model.decoder.requires_grad_(True).train()
    reconstruction = Reconstruction().to(device)
    encode, decode = fused(model.encode), fused(decoder)

    def losses(step: int) -> dict[str, Tensor]:
        audio = crops(np.random.default_rng((3, step)), sounds, BATCH).to(device)
        size = FAINTEST * (LOUDEST / FAINTEST) ** torch.rand(BATCH, 1, 1, device=device)
        with torch.autocast(device.type, torch.bfloat16):
            with torch.no_grad():
                mean = encode(audio)[0]
            decoded = decode(mean + size * torch.randn_like(mean))
        found: dict[str, Tensor] = reconstruction(decoded.float(), audio, 10**LATE_FLOOR)
        return found | {"loss": LATE_WAVE * found["wave"] + LATE_SPECTRUM * (found["stft"] + found["mel"])}

    fit("decoder", folder, decoder, _optimizers(decoder), STEADY, losses, say)
    decoder.eval().requires_grad_(False)


def _optimizers(model: torch.nn.Module) -> list[torch.optim.Optimizer]:
    matrices = [p for name, p in model.named_parameters() if name.endswith("weight_v")]
    others = [p for name, p in model.named_parameters() if not name.endswith("weight_v")]
    return [Muon(matrices, lr=MATRIX_RATE), torch.optim.AdamW(others, lr=RATE, betas=(0.9, 0.98), weight_decay=0.0)]


@torch.no_grad()
def standardize(model: Autoencoder, audio: Tensor) -> None:
    """Give every latent channel the root mean square `LATENT_SIZE` on `audio`, which the noise levels of diffusion count on.

    The last convolution of the encoder is scaled and the first one of the decoder the other way. The deviation is a softplus,
    nearly an exponential where it is small, so that its bias takes a logarithm.
    """
    size = model.encode(audio)[0].square().mean((0, 2)).sqrt() / LATENT_SIZE
    count = len(size)
    last, first = cast(Any, model.encoder.layers[-1]), cast(Any, model.decoder.layers[0])
    last.weight_g[:count] /= size[:, None, None]
    last.bias[:count] /= size
    last.bias[count:] -= size.log()
    weight = first.weight * size[:, None]
    first.weight_v.copy_(weight)
    first.weight_g.copy_(weight.flatten(1).norm(dim=1)[:, None, None])


def crops(rng: np.random.Generator, sounds: np.ndarray[Any, np.dtype[np.int16]], count: int) -> Tensor:
    """A batch of excerpts of one channel, float32 [count, 1, CROP]: most from where there is sound, with its start and end."""
    batch = np.zeros((count, 1, CROP), np.float32)
    for number, index in enumerate(rng.integers(len(sounds), size=count)):
        sound = sounds[index, int(rng.integers(2))]
        heard = np.flatnonzero(np.abs(sound[::256]) > 30)
        end = min(WINDOW, int(heard[-1]) * 256 + CROP // 2) if len(heard) else WINDOW
        start = int(rng.integers(0, max(1, end - CROP // 4))) if rng.random() < 0.75 else 0
        piece = sound[start : start + CROP]
        batch[number, 0, : len(piece)] = piece * (rng.uniform(0.5, 1.0) / 32768)
    return torch.from_numpy(batch)


BANDS = {4096: 0, 2048: 40, 512: 24, 128: 0}
"""Windows of the spectra, and how many wide bands of each are compared."""


CODED = 3000.0
"""Hertz up to which latents can follow a waveform. Above it, a wave in any other phase would cost more than silence."""


class Reconstruction(torch.nn.Module):
    """How far decoded audio is from what was encoded.

    "stft" compares magnitudes at several resolutions, relatively and as logarithms (Yamamoto et al., "Parallel WaveGAN",
    2020), which count by the square root of the louder of the two, because most of a spectrum is silence and a tone is a few
    bins of it. "mel" compares the power in wide bands, which noise has in common with other noise of its kind.
    "wave" is the power of the difference where the waveform can be followed, relative to that of the excerpt; below -30 dB of
    full scale to those -30 dB, because silence would rule the sum.
    """

    def __init__(self) -> None:
        super().__init__()
        for size, bands in BANDS.items():
            window = torch.hann_window(size)
            self.register_buffer(f"window_{size}", window / window.square().sum().sqrt())
            if bands:
                self.register_buffer(f"bands_{size}", mel_bands(size, bands))

    def forward(self, decoded: Tensor, audio: Tensor, floor: float) -> dict[str, Tensor]:
        """Compare audio [b, channels, frames], on top of noise of the power `floor`."""
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
        missing, whole = (low_power(x.flatten(0, 1)) for x in (decoded - audio, audio))
        return {"stft": stft / len(BANDS), "mel": 0.5 * mel, "wave": (missing / (whole + 1e-3)).mean()}


def low_power(signal: Tensor) -> Tensor:
    """Mean power of signals [n, frames] below `CODED` or so, [n]."""
    frames = signal.shape[-1]
    power = torch.view_as_real(torch.fft.rfft(signal)).square().sum(-1)
    hertz = torch.arange(power.shape[-1], device=signal.device) * (SAMPLE_RATE / frames)
    return 2 / frames**2 * (power / (1 + (hertz / CODED) ** 4)).sum(-1)


def _power(signal: Tensor, window: Tensor) -> Tensor:
    return cast(Tensor, _Power.apply(signal, window))  # type: ignore[no-untyped-call]


class _Power(torch.autograd.Function):
    """Power spectra of overlapping frames, [n, samples] to [n, frames, bins], a quarter of the window apart.

    The gradient is written out, because it is one real transform back where autograd's own takes a complex one twice as long.
    """

    @staticmethod
    def forward(context: Any, signal: Tensor, window: Tensor) -> Tensor:
        size = len(window)
        padded = F.pad(signal, (size // 2, size // 2))
        spectrum = torch.fft.rfft(padded.unfold(-1, size, size // 4) * window)
        context.save_for_backward(spectrum if signal.requires_grad else None, window)
        return torch.view_as_real(spectrum).square().sum(-1)

    @staticmethod
    def backward(context: Any, *gradients: Any) -> Any:
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
