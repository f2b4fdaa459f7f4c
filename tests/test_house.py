"""Rules of the house that a reader would otherwise have to watch over."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.conftest import ROOT

ENGINE = ROOT / "engine" / "sao_onnx"

FLOORS = [
    {"environment", "errors", "schema"},
    {"manifest", "onnx_runtime"},
    {"noise", "schedule", "sampler", "audio", "files", "machine", "stage", "regions", "loop", "extension"},
    {"bundle", "sessions", "finish", "batch"},
    {"tokenizer", "autoencoder", "memory", "tuning", "models"},
    {"recipe"},
    {"clip"},
    {"events", "clock", "picture"},
    {"conditioning", "request"},
    {"denoiser"},
    {"loading"},
    {"engine", "tune"},
    {"cli"},
]
"""Modules of the engine from the ground up: each imports only from the floors below its own."""

SOURCE_FLOORS = [
    {"address", "cache", "source", "failures"},
    {"files", "hub"},
    {"locate"},
]
"""Modules of the converter's `source`, likewise."""

PURE = {"extension", "loop", "regions", "noise", "schedule", "sampler", "audio", "finish"}


def _imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def _floor(module: str) -> int:
    return next(i for i, modules in enumerate(FLOORS) if module in modules)


@pytest.mark.parametrize("path", sorted(ENGINE.glob("[!_]*.py")), ids=lambda path: path.stem)
def test_imports_point_down(path):
    for name in _imports(path):
        parts = name.split(".")
        if parts[0] == "sao_onnx" and len(parts) > 1 and (ENGINE / f"{parts[1]}.py").exists():
            assert _floor(parts[1]) < _floor(path.stem), f"{path.stem} imports {parts[1]}"


def test_sources_of_models_point_down_and_know_nothing_of_networks():
    floors = {module: i for i, modules in enumerate(SOURCE_FLOORS) for module in modules}
    folder = ROOT / "convert" / "sao_onnx_convert" / "source"
    assert floors.keys() == {path.stem for path in folder.glob("[!_]*.py")}
    for path in folder.glob("[!_]*.py"):
        imports = _imports(path)
        assert not {"torch", "transformers", "onnx"} & {name.split(".")[0] for name in imports}, path
        ours = [name.split(".") for name in imports if name.startswith("sao_onnx_convert.")]
        # On the ground: errors, silence, and the names of a checkpoint's files and layouts.
        assert {parts[1] for parts in ours} <= {"source", "errors", "quiet", "checkpoint", "layouts"}, path
        for parts in ours:
            if parts[1] == "source" and len(parts) > 2:
                assert floors[parts[2]] < floors[path.stem], f"{path.stem} imports {parts[2]}"


def test_the_engine_needs_nothing_of_the_converter():
    heavy = {"torch", "transformers", "huggingface_hub", "onnx", "optimum", "onnxsim", "safetensors", "sao_onnx_convert"}
    for path in ENGINE.rglob("*.py"):
        # The command hands over to the converter; it is the only place.
        if path != ENGINE / "cli" / "convert.py":
            assert not heavy & {name.split(".")[0] for name in _imports(path)}, path


def test_the_middle_is_pure():
    ours = {f"sao_onnx.{name}" for name in ("environment", "files", "onnx_runtime", "sessions")}
    edges = {"soundfile", "pathlib", "os", *ours}
    for module in PURE:
        assert not edges & _imports(ENGINE / f"{module}.py"), module


def test_only_one_place_imports_onnx_runtime():
    """Because its telemetry begins with the import."""
    places = [path for folder in ("engine", "convert", "bench", "models", "tests") for path in (ROOT / folder).rglob("*.py")]
    users = {path.relative_to(ROOT).as_posix() for path in places if "onnxruntime" in _imports(path)}
    assert users == {"engine/sao_onnx/onnx_runtime.py"}


def test_only_one_place_of_the_engine_uses_onnx_runtime():
    users = {path.relative_to(ENGINE).as_posix() for path in ENGINE.rglob("*.py") if "sao_onnx.onnx_runtime" in _imports(path)}
    assert users == {"sessions.py"}


def test_the_library_neither_prints_nor_asserts():
    for path in ENGINE.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            assert not isinstance(node, ast.Assert), path
            assert not (isinstance(node, ast.Call) and getattr(node.func, "id", "") in {"print", "exit"}), path


def test_version_is_said_once(pytestconfig):
    import tomllib

    import sao_onnx

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["version"] == sao_onnx.__version__
    assert f"## [{sao_onnx.__version__}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
