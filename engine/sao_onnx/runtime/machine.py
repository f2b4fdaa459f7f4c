"""One description of the machine, as this process sees it: its processor and its memory."""

from __future__ import annotations

import platform
from dataclasses import dataclass

from sao_onnx.runtime.process_memory import resident_memory
from sao_onnx.runtime.processor import (
    INT8_MATMULS,
    architecture,
    available_processors,
    processor_features,
    processor_name,
)
from sao_onnx.runtime.system_memory import available_memory, free_swap, total_memory


@dataclass(frozen=True)
class Machine:
    """A machine as this process sees it. Sizes are in bytes.

    Attributes:
        system: Operating system and its release.
        architecture: "x86_64", "aarch64", or the system's own name for another.
        processor: Name of the processor; on Arm of the board and its cores; "unknown" where the system does not say.
        cores: Logical processors that this process may use.
        features: Those of `processor.FEATURES` that the processor has; None where the system does not say.
        memory: Memory of the machine; None if unknown.
        available: Memory that this process can still take without swapping; None if unknown.
        swap: Swap space that is not used; 0 if unknown.
        used: Resident memory of this process; 0 if unknown.
    """

    system: str
    architecture: str
    processor: str
    cores: int
    features: tuple[str, ...] | None
    memory: int | None
    available: int | None
    swap: int
    used: int

    @property
    def reachable(self) -> int | None:
        """Memory that this process has, and that it can still take without swapping, together; None if unknown."""
        return None if self.available is None else self.used + self.available


def describe_machine() -> Machine:
    """Describe this machine as it is now."""
    return Machine(
        system=f"{platform.system()} {platform.release()}",
        architecture=architecture(),
        processor=processor_name(),
        cores=available_processors(),
        features=processor_features(),
        memory=total_memory(),
        available=available_memory(),
        swap=free_swap(),
        used=resident_memory(),
    )


def int8_matmul_instructions(machine: Machine, overflows: bool) -> str | None:
    """What ONNX Runtime computes 8-bit matmuls with on a machine, with the processor feature that decides; None if unknown.

    The results are the same on all of them.

    Args:
        machine: Description of this machine.
        overflows: What `sessions.int8_matmul_overflows` returns here.
    """
    if overflows:
        return "16-bit multiplication of unsigned weights, because signed weights overflow on this processor (no VNNI)"
    for feature, instructions in INT8_MATMULS.get(machine.architecture, {}).items():
        if feature in (machine.features or ()):
            return f"{instructions} ({feature})"
    if machine.architecture == "x86_64" and machine.features is not None:
        return "16-bit multiplication"
    return None
