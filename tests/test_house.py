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
    "version",
    "pyinstaller",
    "errors",
    "warn",
    "forks",
    "suggest",
    "locks",
    "reading",
    "places",
    "writing",
    "slug",
    "arrays",
    "bundle",
    "runtime",
    "audio",
    "sampling",
    "stages",
    "written",
    "option",
    "request",
    "written_options",
    "file_names",
    "provenance",
    "clip",
    "events",
    "planning",
    "running",
    "engine",
    "measuring",
    "outcome",
    "batch",
    "serve",
    "mcp",
    "cli",
    "__main__",
]
"""Folders and single modules of the engine from the ground up: each imports from those below it, and from its own folder."""

CONVERTER = ROOT / "convert" / "sao_onnx_convert"

CONVERTER_FLOORS = [
    "version",
    "errors",
    "warn",
    "quiet",
    "libraries",
    "source",
    "lora",
    "export",
    "family",
    "quantize",
    "bundle",
    "convert",
    "synthetic",
    "unshare",
]
"""Folders and single modules of the converter from the ground up, as `FLOORS`."""

CONVERTER_LIBRARIES = {
    "source": {"huggingface_hub"},
    "source/pickles.py": {"torch"},
    "source/stored.py": {"torch", "safetensors"},
    "source/weights.py": {"torch"},
    "source/config_checks.py": {"torch"},
    "source/spiece.py": {"tokenizers", "transformers"},
    "lora/stored.py": {"torch", "safetensors"},
    "lora/arithmetic.py": {"torch"},
    "lora/merge.py": {"torch"},
    "export": {"torch", "onnx", "onnxsim", "optimum"},
    "family": {"torch", "onnx", "safetensors", "tokenizers", "transformers"},
    "quantize": {"torch", "onnx"},
    "bundle": {"torch", "onnx", "transformers"},
    "libraries.py": {"huggingface_hub", "torch"},
    "unshare.py": {"onnx"},
}
"""The large libraries that a folder or a module may use. Most of `source` reads files without knowing what a tensor is."""

PURE = ("sampling", "planning", "audio/prepare.py", "audio/loudness.py", "audio/finish.py")
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
        if parts[0] != "sao_onnx":
            continue
        if name == "sao_onnx":
            # The package stands on all floors: whoever imports it could use any of them.
            assert own == "cli", f"{path.name} imports the package itself; import from its modules"
            continue
        if not (ENGINE / f"{parts[1]}.py").exists() and not (ENGINE / parts[1]).is_dir():
            raise AssertionError(f"{path.name} imports {name}, which the package only hands on; import it from its module")
        assert parts[1] == own or _floor(parts[1]) < _floor(own), f"{path.name} imports {name}"


@pytest.mark.parametrize("path", sorted(CONVERTER.rglob("*.py")), ids=lambda path: path.relative_to(CONVERTER).as_posix())
def test_imports_of_the_converter_point_down(path):
    if path == CONVERTER / "__init__.py":
        return  # It hands on the public names.
    place = path.relative_to(CONVERTER).as_posix()
    own = CONVERTER_FLOORS.index(place.split("/")[0].removesuffix(".py"))
    imports = _imports(path)
    assert "sao_onnx_convert" not in imports, f"{place} imports the package, which only hands on; import the module"
    for name in imports:
        parts = name.split(".")
        if parts[0] == "sao_onnx_convert" and len(parts) > 1:
            assert CONVERTER_FLOORS.index(parts[1]) < own or ("/" in place and parts[1] == CONVERTER_FLOORS[own]), name
    large = {"torch", "transformers", "tokenizers", "safetensors", "huggingface_hub", "onnx", "onnxsim", "optimum"}
    allowed = CONVERTER_LIBRARIES.get(place, CONVERTER_LIBRARIES.get(place.split("/")[0], set()))
    assert large & {name.split(".")[0] for name in imports} <= allowed


def test_folders_of_the_converter_hold_no_circles():
    """Inside a folder a module imports from modules that do not import it, directly or through others."""
    root = CONVERTER.parent
    files = {path.relative_to(root).with_suffix("").as_posix().replace("/", "."): path for path in CONVERTER.rglob("*.py")}
    below = {name: (_imports(path) & files.keys()) - {name} for name, path in files.items()}
    while below:
        ground = {name for name, needed in below.items() if not needed & below.keys()}
        assert ground, f"these import each other: {sorted(below)}"
        for name in ground:
            del below[name]


def test_the_engine_needs_nothing_of_the_converter():
    heavy = {"torch", "transformers", "huggingface_hub", "onnx", "optimum", "onnxsim", "safetensors", "sao_onnx_convert"}
    for path in ENGINE.rglob("*.py"):
        # The command hands over to the converter; it is the only place.
        if path != ENGINE / "cli" / "convert.py":
            assert not heavy & {name.split(".")[0] for name in _imports(path)}, path


@pytest.mark.parametrize(
    ("folder", "unknown"),
    [
        ("engine", {"bench", "models", "tests", "tools"}),
        ("convert", {"bench", "models", "tests", "tools"}),
        ("models", {"bench", "tests", "tools"}),
        ("bench", {"tests", "tools"}),
        ("tools", {"bench", "models", "tests", "sao_onnx_convert"}),
        ("bench/emulated_arm", {"tests", "models", "sao_onnx", "sao_onnx_convert"}),
    ],
)
def test_tools_are_not_imported_from_below(folder, unknown):
    for path in (ROOT / folder).rglob("*.py"):
        assert not unknown & {name.split(".")[0] for name in _imports(path)}, path


def test_the_middle_is_pure():
    edges = {"soundfile", "pathlib", "os", "sao_onnx.writing", "sao_onnx.audio.files"}
    edges |= {"sao_onnx.runtime.onnx_runtime", "sao_onnx.runtime.sessions"}
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


def test_every_place_says_the_same_version():
    import tomllib

    import sao_onnx

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["version"] == sao_onnx.__version__
    assert f"\nversion: {sao_onnx.__version__}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")


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
