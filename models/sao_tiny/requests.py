"""What a sound is asked for in words, and the sound: prompts, their labels, and the stereo audio that belongs to them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from models.sao_tiny.signals import SAMPLE_RATE, Array, Chance, frames, low_pass, room, tilted, to_level, to_peak
from models.sao_tiny.sounds import ENDING, LOOPS, TONES, VOICES, Voice, Voicing, hertz

WINDOW = 192 * 1024
"""Frames of the model's window, 4.46 s."""

LOWEST_NOTE, HIGHEST_NOTE = 36, 96  # C2 and C7
LOWEST_TEMPO, HIGHEST_TEMPO = 70, 180
SHORTEST = 0.5

KINDS = tuple(VOICES)

_SHARPS = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
_FLATS = {"C#": "Db", "D#": "Eb", "F#": "Gb", "G#": "Ab", "A#": "Bb"}

_NOUNS: dict[str, tuple[str, ...]] = {
    "sine": ("sine wave", "sine tone", "sine", "pure tone"),
    "triangle": ("triangle wave", "triangle tone"),
    "square": ("square wave", "square tone", "square lead"),
    "saw": ("saw wave", "sawtooth", "saw tone", "saw synth"),
    "organ": ("organ", "organ note", "organ tone"),
    "plucked string": ("plucked string", "guitar string", "pluck", "plucked note"),
    "bell": ("bell", "bell tone", "chime"),
    "kick": ("kick drum", "kick", "bass drum"),
    "snare": ("snare drum", "snare", "snare hit"),
    "clap": ("clap", "hand clap", "handclap"),
    "closed hat": ("closed hi-hat", "closed hihat", "closed hat", "hi-hat"),
    "open hat": ("open hi-hat", "open hihat", "open hat"),
    "tom": ("tom", "tom drum", "tom hit"),
    "cymbal": ("cymbal", "crash cymbal", "cymbal crash"),
    "house loop": ("house drum loop", "house beat", "house loop", "drum loop", "tech house drum loop", "drum beat"),
    "techno loop": ("techno drum loop", "techno beat", "techno loop"),
    "rock loop": ("rock drum loop", "rock beat", "rock loop"),
    "hip hop loop": ("hip hop drum loop", "hip hop beat", "hip-hop loop"),
    "white noise": ("white noise", "static", "hiss"),
    "pink noise": ("pink noise",),
    "brown noise": ("brown noise", "low rumble noise"),
    "ocean waves": ("ocean waves", "waves on a beach", "sea waves", "ocean"),
    "rain": ("rain", "rain falling", "rainfall"),
    "wind": ("wind", "howling wind", "wind blowing"),
    "thunder": ("thunder", "rolling thunder", "thunder strike"),
    "laser": ("laser", "laser shot", "laser zap"),
    "riser": ("riser", "rising sweep", "build-up riser"),
    "siren": ("siren", "police siren", "wailing siren"),
    "alarm": ("alarm", "alarm beeping", "beeping alarm"),
    "coin": ("coin", "coin pickup", "video game coin"),
    "footsteps": ("footsteps", "footsteps walking", "steps"),
    "engine": ("engine", "engine running", "motor", "car engine"),
    "telephone": ("telephone ring", "phone ringing", "telephone ringing", "telephone"),
    "clock": ("clock ticking", "ticking clock", "clock tick", "clock"),
    "water drop": ("water drop", "drop of water", "water droplet"),
}

_UNCOUNTED = {"white noise", "pink noise", "brown noise", "ocean waves", "rain", "wind", "thunder", "footsteps"}
_WITHOUT_LENGTH = {"ocean waves", "rain", "wind", "riser", "footsteps", "clock", "telephone", *LOOPS}
_WITHOUT_TILT = {"sine", "triangle", "white noise", "pink noise", "brown noise"}

_FILLERS = (
    "nice",
    "clean",
    "punchy",
    "warm",
    "deep",
    "great",
    "simple",
    "classic",
    "one shot",
    "sample",
    "high quality",
    "stereo",
)
"""Words that people add and that mean nothing here."""

Tone = Literal["", "bright", "dark"]
Level = Literal["", "soft", "loud"]
Length = Literal["", "short", "long"]
Side = Literal["", "left", "right"]


@dataclass(frozen=True)
class Sound:
    """The truth about one sound.

    Attributes:
        kind: One of `KINDS`.
        seconds: What is asked for as the clip's length; silence follows.
        note: MIDI note of tones, else 0.
        tempo: Beats a minute of loops, else 0.
        tone: Tilt of the spectrum.
        level: How hard it is played.
        length: Of itself, within `seconds`.
        side: Where it stands.
        distant: Behind a room.
    """

    kind: str
    seconds: float
    note: int = 0
    tempo: int = 0
    tone: Tone = ""
    level: Level = ""
    length: Length = ""
    side: Side = ""
    distant: bool = False

    @property
    def combination(self) -> str:
        """What is held out as a whole: a kind at its pitch or tempo; of the others a kind with all that is said of it."""
        if self.note or self.tempo:
            return f"{self.kind} {self.note or self.tempo}"
        return " ".join([self.kind, self.tone, self.level, self.length, self.side, str(self.distant)])

    @property
    def held_out(self) -> bool:
        """Whether training leaves this combination to the evaluation: one in ten, never a kind without any adjective."""
        plain = not (self.note or self.tempo or self.tone or self.level or self.length or self.side or self.distant)
        return not plain and hashlib.sha256(self.combination.encode()).digest()[0] % 10 == 0

    @property
    def ends_early(self) -> bool:
        """Whether it should end before `seconds` do."""
        return self.kind in ENDING or self.length == "short"


def draw(rng: np.random.Generator) -> Sound:
    """A sound at random: tones and loops, which have most to learn, more often than others."""
    family = rng.choice(3, p=[0.45, 0.3, 0.25])
    others = [kind for kind in KINDS if kind not in TONES and kind not in LOOPS]
    kind = str(rng.choice([TONES, LOOPS, others][family]))
    loop = kind in LOOPS
    whole = WINDOW / SAMPLE_RATE
    seconds = whole if rng.random() < 0.4 else round(float(rng.uniform(2.5 if loop else SHORTEST, whole)), 2)
    return Sound(
        kind=kind,
        seconds=seconds,
        note=int(rng.integers(LOWEST_NOTE, HIGHEST_NOTE + 1)) if kind in TONES else 0,
        tempo=int(rng.integers(LOWEST_TEMPO, HIGHEST_TEMPO + 1)) if loop else 0,
        tone="" if kind in _WITHOUT_TILT else _one_of(rng, "bright", "dark", 0.3),
        level=_one_of(rng, "soft", "loud", 0.2),
        length="" if kind in _WITHOUT_LENGTH else _one_of(rng, "short", "long", 0.3),
        side=_one_of(rng, "left", "right", 0.3),
        distant=bool(rng.random() < 0.1),
    )


def _one_of(rng: np.random.Generator, first: Any, second: Any, share: float) -> Any:
    return "" if rng.random() > share else (first if rng.random() < 0.5 else second)


def note_name(note: int, flat: bool = False) -> str:
    """Scientific pitch notation: 69 is A4."""
    name = _SHARPS[note % 12]
    return f"{_FLATS.get(name, name) if flat else name}{note // 12 - 1}"


def _pitch(rng: np.random.Generator, note: int) -> str:
    """A note by its name, or in hertz."""
    name = note_name(note, bool(rng.random() < 0.3))
    if rng.random() < 0.4:
        return str(rng.choice([f"{round(hertz(note))} Hz", f"{round(hertz(note))}Hz"]))
    return name


def describe(rng: np.random.Generator, sound: Sound) -> str:
    """One of the many ways of asking for a sound."""
    noun = str(rng.choice(_NOUNS[sound.kind]))
    before: list[str] = []
    after: list[str] = []
    if sound.tempo:
        tempo = str(rng.choice([f"{sound.tempo} BPM", f"{sound.tempo} bpm", f"{sound.tempo}bpm"]))
        (before if rng.random() < 0.6 else after).append(tempo)
    if sound.note:
        pitch = _pitch(rng, sound.note)
        if rng.random() < 0.4:
            before.append(pitch)
        else:
            after.append(str(rng.choice([f"at {pitch}", pitch, f"playing {pitch}"])))
    for word in rng.permutation([word for word in (sound.tone, sound.level, sound.length) if word]):
        (before if rng.random() < 0.8 else after).append(str(word))
    if sound.distant:
        if rng.random() < 0.6:
            before.insert(0, "distant")
        else:
            after.append(str(rng.choice(["far away", "in the distance", "distant"])))
    if sound.side:
        side = sound.side
        after.append(str(rng.choice([f"on the {side}", f"panned {side}", f"from the {side}", side])))
    if rng.random() < 0.12:
        (before if rng.random() < 0.5 else after).append(str(rng.choice(_FILLERS)))
    article = str(rng.choice(["", "", "a ", "the sound of a "]))
    if sound.kind in _UNCOUNTED:
        article = str(rng.choice(["", "", "the sound of "]))
    after = [str(words) for words in rng.permutation(after)]
    joint = str(rng.choice([" ", ", "]))
    return joint.join([article + " ".join([*before, noun]), *after])


_TILT = {"": 0.0, "bright": 4.0, "dark": -4.0}
_STRETCH = {"": 1.0, "short": 0.5, "long": 1.9}
_LEVEL = {"": 0.12, "soft": 0.07, "loud": 0.2}
"""Of the loudest part, not of the peak: drums would drown beside held tones in the noise that diffusion begins with."""


def render(
    rng: np.random.Generator, sound: Sound, take: int = 0, more: Voice | None = None
) -> np.ndarray[Any, np.dtype[np.float32]]:
    """The sound as audio: float32 [2, `WINDOW`], silence behind it. Takes differ in their noise alone.

    Both channels are the same signal, at two levels.

    Args:
        rng: Makes what the request leaves open.
        sound: The request.
        take: Which of the sounds that differ in their noise.
        more: A voice that sounds with that of the kind.
    """
    chance = Chance(int(rng.integers(1 << 62)), take)
    seconds = min(sound.seconds, WINDOW / SAMPLE_RATE)
    held = seconds * chance.uniform(0.16, 0.24) if sound.length == "short" else seconds
    held = max(held, 0.12)
    length = held if sound.kind not in ENDING else seconds
    voicing = Voicing(length, _STRETCH[sound.length], hertz(sound.note), float(sound.tempo))
    mono = VOICES[sound.kind](chance, voicing)
    if more is not None:
        added = more(chance, voicing)
        longest = max(len(mono), len(added))
        mono = np.pad(mono, (0, longest - len(mono))) + np.pad(added, (0, longest - len(added)))
    mono = mono[: frames(seconds)]
    if sound.tone:
        mono = tilted(mono, _TILT[sound.tone] * chance.uniform(0.8, 1.2))
    if sound.level == "soft":
        mono = low_pass(mono, 5000, 1)
    if sound.level == "loud":
        mono = np.tanh(2.0 * to_peak(mono))
    level = _LEVEL[sound.level] * chance.uniform(0.9, 1.0)
    mono = to_level(mono, level)
    if sound.distant:
        dry = low_pass(np.pad(mono, (0, frames(seconds) - len(mono))), 1800, 1)
        mono = to_level(dry + 0.2 * room(dry, 0.9), 0.7 * level)
        last = frames(0.03)
        mono[-last:] *= np.linspace(1, 0, last)
    stereo = np.zeros((2, WINDOW), np.float32)
    stereo[:, : len(mono)] = GAINS[sound.side][:, None] * mono
    return stereo


GAINS: dict[str, Array] = {"": np.array([1.0, 1.0]), "left": np.array([1.0, 0.12]), "right": np.array([0.12, 1.0])}
