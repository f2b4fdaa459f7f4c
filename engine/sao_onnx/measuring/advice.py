"""What is wrong with a machine that is slower than it could be, in words. Each advice is a function of a report alone."""

from __future__ import annotations

from collections.abc import Callable

from sao_onnx.measuring.report import Report

LOW_SHARE = 0.5
"""Share of the matmuls' peak under which a clip is slower than it should be.

Zen 4 with VNNI reached 0.78: 2.58e12 operations in 4.83 s, where a large matmul runs at 688e9 in a second
(bench/results/results.md and profile.md).
"""

HOT = 80.0
"""Degrees from which a Raspberry Pi lowers its clock; at 85 it lowers it far. From Raspberry Pi's own documentation."""

SLOWED = 0.9
"""Part of the highest clock below which a processor does not run as fast as it could. Clocks are read a moment after the work,
when some have begun to fall; a Raspberry Pi's steps are wider than the tenth."""

BUSY = 0.2
"""Processors taken away by others from which it shows: a twentieth of a Raspberry Pi. The desktop alone takes less."""

SWAPPED = 16_000_000
"""Bytes to and from swap in two minutes that are no chance."""

GAIN = 2.0
"""How many times as fast as single precision 8 bits should be at least, where there are instructions for them.

The units of Arm's and of Intel's cores do four times as many; ONNX Runtime reached 3.7 on Zen 4 (profile.md), and others
measured 3.4 on a Raspberry Pi 5.
"""

ALONE = 0.4
"""Part of the rate of one thread that each of several should have at least.

Others measured 0.55 on the four cores of a Raspberry Pi 5; two threads of one core, as on many laptops, have about 0.6.
"""

READING = 0.25
"""Part of a step's time from which reading the weights is what it waits for. On a Raspberry Pi 5 it would be 0.06: 0.33 GB at
6.2 GB/s of a step of about a second."""

UNDER_VOLTAGE, CAPPED, THROTTLED, SOFT_LIMIT = 0x10001, 0x20002, 0x40004, 0x80008
"""Bits of `vcgencmd get_throttled`, from Raspberry Pi's documentation: now, and at some time since the start."""

STATIC_LOW = ("powersave", "userspace", "conservative")
"""Governors of the kernel under which a processor may stay slow, where the clock is unknown."""


def fewer_processors(report: Report) -> str | None:
    """The process may not use all processors."""
    present, usable = report.settings.present, report.hardware.usable
    if present is None or usable >= present:
        return None
    limit = report.settings.cpu_limit
    why = "its affinity (taskset)" if limit is None or limit > usable else f"a control group with the time of {limit:g}"
    return f"Only {usable} of {present} processors may be used, because of {why}. A container or a service sets such limits."


def fewer_threads(report: Report) -> str | None:
    """The engine runs with fewer threads than processors that it may use."""
    threads, usable = report.model.threads, report.hardware.usable
    if threads >= usable:
        return None
    return (
        f"The engine runs {threads} thread{'s' if threads > 1 else ''} on {usable} processors, as `sao-onnx tune` chose. If "
        "the machine was busy then, tune again: sao-onnx tune --reset, then sao-onnx tune."
    )


def governor(report: Report) -> str | None:
    """The kernel's governor keeps the clock low."""
    names = [name for name in report.settings.governors if name != "performance"]
    if not names:
        return None
    ratio = _clock_ratio(report)
    if ratio is None and not set(names) & set(STATIC_LOW):
        return None
    if ratio is not None and ratio >= SLOWED:
        return None
    found = "" if ratio is None else f", and the clock under load was {ratio:.0%} of the highest"
    return (
        f"The kernel's governor is {' and '.join(names)}, not performance{found}. Until the next start: "
        "echo performance | sudo tee /sys/devices/system/cpu/cpufreq/policy*/scaling_governor"
    )


def slowed(report: Report) -> str | None:
    """The clock is below the highest though the governor allows it."""
    ratio = _clock_ratio(report)
    if ratio is None or ratio >= SLOWED or set(report.settings.governors) != {"performance"}:
        return None
    return (
        f"The clock under load fell to {ratio:.0%} of the highest though the governor is performance: heat, the power supply, "
        "or a limit in the firmware."
    )


def under_voltage(report: Report) -> str | None:
    """A Raspberry Pi has too weak a power supply."""
    if not _firmware_bits(report) & UNDER_VOLTAGE:
        return None
    return (
        "The board's supply fell below its voltage, so the firmware lowers the clock. Use the power supply that is made for "
        "the board (a Raspberry Pi 5: 5.1 V and 5 A), and a short cable."
    )


def throttled(report: Report) -> str | None:
    """A Raspberry Pi lowered its clock."""
    bits = _firmware_bits(report)
    if not bits & (CAPPED | THROTTLED | SOFT_LIMIT):
        return None
    during = any(((moment.throttled or 0) & 0xE) for moment in report.moments)
    when = "during the measurement" if during else "at some time since the board was started"
    return f"The firmware lowered the clock {when} (throttled={bits:#x}). Cool the board with a heat sink and a fan."


def hot(report: Report) -> str | None:
    """The processor is near the temperature at which it slows down."""
    hottest = max((moment.temperature for moment in report.moments if moment.temperature is not None), default=0.0)
    if hottest < HOT:
        return None
    return (
        f"The processor reached {hottest:.0f} °C; boards slow down from about {HOT:.0f} °C. Cool it with a heat sink and a fan."
    )


def others_work(report: Report) -> str | None:
    """Other programs take processors that the engine would use."""
    if report.load.others is None:
        return None
    spare = (report.settings.present or report.hardware.usable) - report.model.threads
    lost = report.load.others - max(0, spare)
    if lost < BUSY:
        return None
    return (
        f"Other programs used {report.load.others:.1f} processors while this ran, {lost:.1f} of those that the engine would "
        "use. Close them and measure again; `top` shows them."
    )


def stolen(report: Report) -> str | None:
    """The host of a virtual machine takes its processors away."""
    if (report.load.stolen or 0) < BUSY:
        return None
    return f"This is a virtual machine, and its host gave {report.load.stolen:.1f} of its processors to others meanwhile."


def swapped(report: Report) -> str | None:
    """Memory was moved to or from the disk."""
    amount = report.load.swapped or 0
    if amount < SWAPPED:
        return None
    return (
        f"{amount / 1e6:.0f} MB went to and from swap while this ran: there is too little free memory. Close other programs; "
        "sao-onnx doctor tells what a clip needs."
    )


def no_dot_products(report: Report) -> str | None:
    """The processor has no instructions for 8-bit dot products."""
    if not (report.software.int8_products or "").startswith("16-bit"):
        return None
    return (
        f"This processor has no instructions for dot products of 8-bit numbers ({report.software.int8_products}). Nothing is "
        "wrong; int8 still takes less memory. sao-onnx tune finds out whether fp32, where the bundle holds it, is faster here."
    )


def int8_gains_little(report: Report) -> str | None:
    """There are such instructions, but 8 bits are hardly faster."""
    products = report.software.int8_products
    # Of one thread, which other programs disturb less.
    gain = report.rates.int8_one / report.rates.fp32_one
    if products is None or products.startswith("16-bit") or gain >= GAIN:
        return None
    return (
        f"8-bit matmuls are only {gain:.1f} times as fast as single precision, though the processor has {products}. "
        f"ONNX Runtime {report.software.onnxruntime} may not use them: try a newer one, and send us the report."
    )


def threads_hinder(report: Report) -> str | None:
    """Several threads do not add up."""
    usable = report.hardware.usable
    gain = report.rates.int8_all / report.rates.int8_one
    if usable < 2 or gain >= ALONE * usable:
        return None
    return (
        f"{usable} threads are only {gain:.1f} times as fast as one: other programs, heat, a weak power supply, or slow "
        "memory. sao-onnx tune finds out whether fewer threads are faster."
    )


def memory_bound(report: Report) -> str | None:
    """A step waits for its weights."""
    part = report.model.dit_bytes / report.rates.copy / report.stage("dit").run
    if part < READING:
        return None
    return (
        f"Reading the weights ({report.model.dit_bytes / 1e6:.0f} MB at {report.rates.copy / 1e9:.1f} GB/s) takes about "
        f"{part:.0%} of a step: memory is the limit, not the processor. A bundle in int8 reads a quarter of one in fp32."
    )


def low_share(report: Report) -> str | None:
    """A clip is far from what the processor can do."""
    if not report.telling or report.share >= LOW_SHARE:
        return None
    tune = "" if report.model.tuned else " Try sao-onnx tune, once, on this machine."
    return (
        f"A clip runs at {report.share:.0%} of what a large matmul reaches here; {LOW_SHARE:.0%} and more are usual.{tune} If "
        "nothing else explains it, send us the report."
    )


CHECKS: tuple[Callable[[Report], str | None], ...] = (
    under_voltage,
    throttled,
    hot,
    governor,
    slowed,
    fewer_processors,
    fewer_threads,
    others_work,
    stolen,
    swapped,
    no_dot_products,
    int8_gains_little,
    threads_hinder,
    memory_bound,
    low_share,
)
"""What is looked at, the likeliest reasons first."""


def advice(report: Report) -> dict[str, str]:
    """What is wrong, and how to mend it, by the name of the check; empty if nothing was found."""
    said = ((check.__name__, check(report)) for check in CHECKS)
    return {name: text for name, text in said if text is not None}


def _clock_ratio(report: Report) -> float | None:
    """The clock under load as a part of the highest: the median over parts of the slowest group; None if unknown.

    The first moment does not count: it is before the work.
    """
    ratios = []
    for moment in report.moments[1:]:
        pairs = zip(moment.clocks, report.settings.fastest, strict=False)
        if known := [now / most for now, most in pairs if now > 0 and most > 0]:
            ratios.append(min(known))
    return sorted(ratios)[len(ratios) // 2] if ratios else None


def _firmware_bits(report: Report) -> int:
    """All bits of all moments; 0 where the firmware said nothing."""
    bits = 0
    for moment in report.moments:
        bits |= moment.throttled or 0
    return bits
