"""Options that several commands take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

MODEL_VARIABLE = "SAO_ONNX_MODEL"

Bundle = Annotated[Path, typer.Argument(help="Folder of a bundle.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Force = Annotated[bool, typer.Option("--force", help="Replace what exists.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show nothing but errors and the result.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Say what is going on.")]
