"""Tries faults and counts what comes of them.

python -m tests.faults                      all kinds: 10,000 faults, about ten minutes on two processors
python -m tests.faults lists tags           these kinds
python -m tests.faults --replay lists 228   one fault again, with all that is known of it; its folder stays
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import tempfile
import time
from pathlib import Path

from tests.faults.kinds import KINDS, PATIENCE, module
from tests.faults.outcome import GOOD, Outcome
from tests.faults.pool import prepare, tried
from tests.faults.report import Counts, counted, failures, printable, table


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("kinds", nargs="*", default=list(KINDS), help=", ".join(KINDS))
    parser.add_argument("--first", type=int, default=0, help="number of the first fault; others make other faults")
    parser.add_argument("--share", type=float, default=1.0, help="of the 10,000 faults, for a look: 0.1 are 1,000")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)), help="faults at the same time")
    parser.add_argument("--results", type=Path, help="file for the counts, in Markdown")
    parser.add_argument("--replay", nargs=2, metavar=("KIND", "NUMBER"), help="try one fault again, in this process")
    return parser.parse_args()


def _replay(kind: str, seed: int) -> Outcome:
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # As in `pool`.
    subject = importlib.import_module(module(kind))
    if hasattr(subject, "start"):
        subject.start()
    folder = Path(tempfile.mkdtemp(prefix=f"{kind}-{seed}-"))
    print(f"folder: {folder}", flush=True)
    fault = prepare(module(kind), seed, folder)
    print(f"fault: {printable(fault.what, 2000)}", flush=True)
    outcome = fault.run()
    print(f"outcome: {outcome.verdict}, {printable(outcome.found, 2000)}\n{outcome.trace}")
    return outcome


def _run(kinds: list[str], first: int, share: float, workers: int) -> dict[str, Counts]:
    counts = {}
    for kind in kinds:
        began = time.monotonic()
        seeds = range(first, first + max(1, round(share * KINDS[kind].whole)))
        counts[kind] = counted(kind, tried(module(kind), seeds, workers=workers, patience=PATIENCE, rounds=KINDS[kind].rounds))
        print(f"{kind}: {dict(counts[kind].verdicts)} in {time.monotonic() - began:.0f} s", flush=True)
    return counts


def _text(counts: dict[str, Counts], seconds: float) -> list[str]:
    from sao_onnx.runtime.machine import describe_machine

    machine = describe_machine()
    found = failures(counts)
    return [
        "# Injected faults",
        "",
        f"`{' '.join(['python -m tests.faults', *sys.argv[1:]])}`, {seconds / 60:.0f} minutes on {machine.processor}, "
        f"{machine.cores} processors.",
        "",
        "Refused: an error of a type of ours. Same: the result without the fault, bit for bit. Allowed: another valid result,",
        "or the end of a process that left every file whole or absent. The others must not be. Wrong: other samples of which",
        "nothing tells, files that are not whole, lost, or none of the command's business. Untyped: an error of another type,",
        "or a traceback. Hang: no end within 10 s (longer on a busy machine), twice. Crash: the end of the process.",
        "",
        *table(counts),
        "",
        *(["## What failed", "", *found] if found else []),
    ]


def main() -> None:
    """Entry point."""
    given = _arguments()
    if given.replay:
        sys.exit(0 if _replay(given.replay[0], int(given.replay[1])).verdict in GOOD else 1)
    began = time.monotonic()
    counts = _run(given.kinds, given.first, given.share, given.workers)
    text = "\n".join(_text(counts, time.monotonic() - began)).rstrip() + "\n"
    print(text)
    if given.results is not None:
        given.results.parent.mkdir(parents=True, exist_ok=True)
        given.results.write_text(text, encoding="utf-8")
    sys.exit(1 if any(found.failed for found in counts.values()) else 0)


if __name__ == "__main__":
    main()
