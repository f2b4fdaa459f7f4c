"""What was measured, as plain data that can be sent to others: it has no names of hosts, users, models, files or folders."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from sao_onnx.bundle.manifest import Precision
from sao_onnx.measuring.board import Moment, Settings
from sao_onnx.measuring.operations import Operations
from sao_onnx.measuring.rates import Rates

FORMAT = 1
"""Version of the report's form."""

TELLING = 5e11
"""Operations of a clip from which the share of the peak means something.

A clip of the released model takes five times as many. Those of a small model are over before threads, lookups and Python have
paid for themselves: sao-tiny's share is low on every machine.
"""


@dataclass(frozen=True)
class Software:
    """Versions, and how 8-bit matmuls are computed.

    Attributes:
        sao_onnx: Version of this package.
        python: Version of Python.
        onnxruntime: Version of ONNX Runtime.
        build: How ONNX Runtime was built.
        int8_products: What it computes 8-bit matmuls with; None if unknown.
        int8_overflows: Whether products of signed weights would overflow, so that unsigned ones are used.
        native_operators: Which native operators run, or why none do.
    """

    sao_onnx: str
    python: str
    onnxruntime: str
    build: str
    int8_products: str | None
    int8_overflows: bool
    native_operators: str


@dataclass(frozen=True)
class Hardware:
    """The machine. Sizes are in bytes.

    Attributes:
        system: Operating system and its release.
        architecture: Of the processor.
        processor: Its name; on Arm that of the board and its cores.
        features: Those of its features that matter; None if unknown.
        usable: Logical processors that this process may use.
        memory: Memory of the machine; None if unknown.
        available: Memory that could be taken before the measurement; None if unknown.
    """

    system: str
    architecture: str
    processor: str
    features: tuple[str, ...] | None
    usable: int
    memory: int | None
    available: int | None


@dataclass(frozen=True)
class Load:
    """What else went on. Numbers of processors are means over the measurement; None if unknown.

    Attributes:
        before: Programs that ran or waited to run in the minute before.
        others: Processors that other programs used.
        stolen: Processors that the host of a virtual machine gave to others.
        swap_used: Bytes of swap space in use before.
        swapped: Bytes that were moved to and from swap meanwhile.
    """

    before: float | None
    others: float | None
    stolen: float | None
    swap_used: int
    swapped: int | None


@dataclass(frozen=True)
class Model:
    """The bundle, without its name, which its user may have chosen.

    Attributes:
        fingerprint: Of the bundle.
        seconds: Length of its window.
        dit: Precision of the DiT.
        decoder: Precision of the decoder.
        dit_bytes: Weights that a step reads.
        threads: Threads of a run of the DiT.
        workers: Tiles that are decoded at the same time.
        tuned: Whether `sao-onnx tune` chose these settings.
        operations: What a clip takes.
    """

    fingerprint: str
    seconds: float
    dit: Precision
    decoder: Precision
    dit_bytes: int
    threads: int
    workers: int
    tuned: bool
    operations: Operations


@dataclass(frozen=True)
class Stage:
    """A stage of the bundle, alone.

    Attributes:
        name: "text", "dit" or "decoder".
        work: What one run is.
        load: Seconds to open it, with its files in the system's cache or not as it happened to be.
        run: Seconds of the shortest run.
    """

    name: str
    work: str
    load: float
    run: float


@dataclass(frozen=True)
class Clip:
    """A whole clip of the whole window. Times are in seconds.

    Attributes:
        seconds: Without loading.
        load: Opening of all stages.
        measured: Whether one was made; otherwise both are added up from the stages, because there was no time left.
        conditioning, sampling, decoding: Parts of `seconds`.
    """

    seconds: float
    load: float
    measured: bool
    conditioning: float
    sampling: float
    decoding: float


@dataclass(frozen=True)
class Report:
    """Everything that was measured."""

    format: int
    software: Software
    hardware: Hardware
    settings: Settings
    load: Load
    rates: Rates
    model: Model
    stages: tuple[Stage, ...]
    clip: Clip
    moments: tuple[Moment, ...]

    @property
    def peak(self) -> float:
        """Operations in a second of the large matmul in the precision that the DiT runs in, with all threads."""
        return self.rates.int8_all if self.model.dit == "int8" else self.rates.fp32_all

    @property
    def rate(self) -> float:
        """Operations in a second of the whole clip."""
        return self.model.operations.clip / self.clip.seconds

    @property
    def share(self) -> float:
        """`rate` as a part of `peak`. What it says for a small model is little; see `telling`."""
        return self.rate / self.peak

    @property
    def least(self) -> float:
        """Seconds for a clip if every operation ran at the peak."""
        return self.model.operations.clip / self.peak

    @property
    def telling(self) -> bool:
        """Whether the model has so much work that its share says something of the machine."""
        return self.model.operations.clip >= TELLING

    def stage(self, name: str) -> Stage:
        """The stage of a name."""
        return next(stage for stage in self.stages if stage.name == name)

    def to_json(self, advice: dict[str, str]) -> str:
        """The report as JSON, with what follows from it and the advice by name."""
        derived: dict[str, Any] = {
            "operations_of_a_clip": self.model.operations.clip,
            "rate": self.rate,
            "share": self.share,
            "least_seconds": self.least,
            "share_is_telling": self.telling,
        }
        return json.dumps(asdict(self) | {"derived": derived, "advice": advice}, indent=1)
