"""Emulated Arm cores: instructions of 8-bit operators, one pass of each stage at full size, and the size of what is installed.

    python -m bench.arm forms
    python -m bench.arm passes [--folder scratch/bench]
    python -m bench.arm sizes
    python -m bench.arm instructions --operators WHEEL [--folder scratch/bench]

Writes `arm-forms.md`, `arm-passes.md`, `arm-sizes.md` or `arm-instructions.md`. The times that an emulator takes say nothing
about a real board. Only ratios of times on the same core mean something: they follow the number of instructions.
"""

from __future__ import annotations

from bench.arm import forms, instructions, passes, sizes
from bench.arm.core import emulated_python
from bench.common import parser
from bench.emulated_arm.debian import UnavailableError


def main() -> None:
    """Measure what the command line says, and write the report."""
    options = parser(__doc__)
    options.add_argument("what", choices=("forms", "passes", "sizes", "instructions"), help="what to measure")
    options.add_argument("--operators", help="wheel of sao-onnx-ops for Arm, to be compared with stock nodes")
    arguments = options.parse_args()
    try:
        python = emulated_python(*filter(None, [arguments.operators]))
    except UnavailableError as error:
        raise SystemExit(f"error: {error}") from error
    reports = {
        "forms": lambda: forms.report(python),
        "passes": lambda: passes.report(python, arguments.folder / "bundle"),
        "sizes": lambda: sizes.report(python),
        "instructions": lambda: instructions.report(python, arguments.folder / "bundle"),
    }
    text = "\n".join(reports[arguments.what]()) + "\n"
    arguments.results.mkdir(parents=True, exist_ok=True)
    (arguments.results / f"arm-{arguments.what}.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
