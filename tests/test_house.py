"""Rules of the house that a reader would otherwise have to watch over."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.processes import succeed
from tests.test_package import MOVED

ENGINE = ROOT / "engine" / "sao_onnx"

FLOORS = [
    "errors",
    "arrays",
    "bundle",
    "runtime",
    "audio",
    "sampling",
    "stages",
    "option",
    "request",
    "provenance",
    "clip",
    "events",
    "planning",
    "running",
    "engine",
    "cli",
]
"""Folders and single modules of the engine from the ground up: each imports from those below it, and from its own folder."""

SOURCE_FLOORS = [
    {"address", "cache", "source", "failures", "file_names", "t5_names", "config_fields"},
    {"file_kinds", "hub", "layouts", "config_checks"},
    {"files", "locate", "weights", "t5_config", "spiece"},
    {"t5_files"},
]
"""Modules of the converter's `source`, likewise."""

SOURCE_LIBRARIES = {
    "weights": {"torch", "safetensors"},
    "config_checks": {"torch"},
    "spiece": {"tokenizers", "transformers"},
}
"""What some of them need; the others read files without knowing what a tensor is."""

PURE = ("sampling", "planning", "audio/prepare.py", "audio/finish.py")
"""What knows no file, no session and no operating system."""


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
    assert module in FLOORS, f"{module} has no floor"
    return FLOORS.index(module)


@pytest.mark.parametrize("path", sorted(ENGINE.rglob("*.py")), ids=lambda path: path.relative_to(ENGINE).as_posix())
def test_imports_point_down(path):
    if path == ENGINE / "__init__.py":
        return  # Names of every floor, none of which it loads.
    own = path.relative_to(ENGINE).parts[0].removesuffix(".py")
    for name in _imports(path):
        parts = name.split(".")
        if parts[0] != "sao_onnx" or name in ("sao_onnx", "sao_onnx.__version__"):
            continue
        if not (ENGINE / f"{parts[1]}.py").exists() and not (ENGINE / parts[1]).is_dir():
            raise AssertionError(f"{path.name} imports {name}, which the package only hands on; import it from its module")
        assert parts[1] == own or _floor(parts[1]) < _floor(own), f"{path.name} imports {name}"


def test_sources_of_models_point_down_and_know_nothing_of_networks():
    floors = {module: i for i, modules in enumerate(SOURCE_FLOORS) for module in modules}
    folder = ROOT / "convert" / "sao_onnx_convert" / "source"
    assert floors.keys() == {path.stem for path in folder.glob("[!_]*.py")}
    for path in folder.glob("[!_]*.py"):
        imports = _imports(path)
        libraries = {"torch", "transformers", "tokenizers", "safetensors", "onnx"} & {name.split(".")[0] for name in imports}
        assert libraries <= SOURCE_LIBRARIES.get(path.stem, set()), path
        ours = [name.split(".") for name in imports if name.startswith("sao_onnx_convert.")]
        assert {parts[1] for parts in ours} <= {"source", "errors", "quiet"}, path
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
    edges = {"soundfile", "pathlib", "os", "sao_onnx.audio.files", "sao_onnx.runtime.onnx_runtime", "sao_onnx.runtime.sessions"}
    for part in PURE:
        for path in sorted((ENGINE / part).rglob("*.py")) or [ENGINE / part]:
            assert not edges & _imports(path), path


def test_only_one_place_imports_onnx_runtime():
    """Because its telemetry begins with the import."""
    places = [path for folder in ("engine", "convert", "bench", "models", "tests") for path in (ROOT / folder).rglob("*.py")]
    users = {path.relative_to(ROOT).as_posix() for path in places if "onnxruntime" in _imports(path)}
    assert users == {"engine/sao_onnx/runtime/onnx_runtime.py"}


def test_only_one_place_of_the_engine_uses_onnx_runtime():
    users = {
        path.relative_to(ENGINE).as_posix()
        for path in ENGINE.rglob("*.py")
        if "sao_onnx.runtime.onnx_runtime" in _imports(path)
    }
    assert users == {"runtime/sessions.py"}


def test_the_library_neither_prints_nor_asserts():
    for path in sorted(set(ENGINE.rglob("*.py")) - set((ENGINE / "cli").rglob("*.py"))):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            assert not isinstance(node, ast.Assert), path
            assert not (isinstance(node, ast.Call) and getattr(node.func, "id", "") in {"print", "exit"}), path


def test_version_is_said_once(pytestconfig):
    import tomllib

    import sao_onnx

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["version"] == sao_onnx.__version__
    assert f"## [{sao_onnx.__version__}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_middle_loads_no_edge():
    """Not by way of other modules either."""
    modules = "sao_onnx.planning.planner, sao_onnx.sampling.samplers, sao_onnx.sampling.inpainting, sao_onnx.sampling.noise"
    edges = "{'onnxruntime', 'soundfile', 'tokenizers', 'sao_onnx.audio.files', 'sao_onnx.runtime.sessions', 'sao_onnx.engine'}"
    succeed([sys.executable, "-c", f"import sys, {modules}\nif found := {edges} & set(sys.modules): sys.exit(str(found))"])


def _used_of_the_package(path: Path) -> set[str]:
    """Names that a module takes from `sao_onnx` itself."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "sao_onnx":
            found.add(node.attr)
        elif isinstance(node, ast.ImportFrom) and node.module == "sao_onnx":
            found |= {alias.name for alias in node.names}
    return found


def test_old_names_are_used_nowhere():
    """They are there for others, for one version."""
    for folder in ("engine", "convert", "bench", "models", "tests"):
        for path in (ROOT / folder).rglob("*.py"):
            assert not MOVED.keys() & _used_of_the_package(path), path
