"""Sounds for assistants: the command as a process, called by the client of the protocol's own SDK."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import soundfile

from sao_onnx.errors import FileError, RequestError
from sao_onnx.provenance import read_provenance
from sao_onnx.request import kinds
from tests.processes import GUARD, run, started, wait_until
from tests.watch import watched

pytest.importorskip("mcp_types", reason="the extra `mcp` is not installed")
pytest.importorskip("mcp.client.stdio", reason="the extra `mcp` is not whole", exc_type=ImportError)
import anyio
import anyio.from_thread
import jsonschema
from mcp.client.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.shared.exceptions import MCPError

from sao_onnx.mcp.folder import Folder
from sao_onnx.mcp.tools import LIST_MODELS, TOOLS, call, schema
from sao_onnx.serve.schema import NOT_IN_JSON
from sao_onnx.serve.settings import Limits

SHORT = {"seconds": 0.2, "steps": 1, "seed": 1}
ENDLESS = {"prompt": "rain", "steps": 1_000_000}
"""A clip that takes an hour."""
STEP = re.compile(r"step [1-9]")


def environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name.startswith(("PYTHON", "XDG_"))}
    return kept | {"PYTHONUNBUFFERED": "1"}


def arguments(folder: Path, miniature: Path) -> list[str]:
    return ["-m", "sao_onnx", "mcp", str(folder), "--model", str(miniature), "--threads", "1", "--max-steps", "1000000"]


class Assistant:
    """A client with a server of its own, whose calls wait for their answers."""

    def __init__(self, portal: Any, client: Any, folder: Path) -> None:
        self.portal, self.client, self.folder = portal, client, folder

    def begin(self, name: str, /, progress: Any = None, **options: Any) -> Any:
        """Call a tool; what comes is a future."""
        return self.portal.start_task_soon(functools.partial(self.client.call_tool, name, options, progress_callback=progress))

    def call(self, name: str, /, progress: Any = None, **options: Any) -> Any:
        return self.begin(name, progress, **options).result(GUARD)

    def make(self, name: str, /, **options: Any) -> dict[str, Any]:
        """What a call made."""
        answer = self.call(name, **options)
        assert not answer.is_error, answer.content
        about: dict[str, Any] = answer.structured_content
        return about

    def refusal(self, name: str, /, **options: Any) -> str:
        """What is said of a call that cannot be answered."""
        answer = self.call(name, **options)
        assert answer.is_error
        [said] = answer.content
        return str(said.text)


@contextlib.contextmanager
def assistant(folder: Path, miniature: Path, mode: str = "auto"):
    server = StdioServerParameters(command=sys.executable, args=arguments(folder, miniature), env=environment())
    made = Client(stdio_client(server), mode=cast(Any, mode))
    with anyio.from_thread.start_blocking_portal() as portal, portal.wrap_async_context_manager(made) as client:
        yield Assistant(portal, client, folder)


@pytest.fixture(scope="module")
def asking(tmp_path_factory, miniature):
    with assistant(tmp_path_factory.mktemp("mcp") / "clips", miniature) as made:
        yield made


def test_a_clip_is_the_one_that_the_engine_makes(asking, miniature):
    import sao_onnx

    told: list[tuple[Any, ...]] = []

    async def progress(*what: Any) -> None:
        told.append(what)

    answer = asking.call("generate", progress, prompt="rain", **SHORT | {"steps": 3}, name="Rain, on a Roof.wav")
    about = answer.structured_content
    path = asking.folder / "rain-on-a-roof.wav"
    assert (about["file"], about["clip"], about["seed"], about["seconds"]) == (str(path), path.name, 1, 0.2)
    assert about["recipe"]["prompt"] == "rain"
    assert about["recipe"]["options"] == {"seconds": 0.2, "steps": 3}
    # A client that shows words alone tells the same.
    assert str(path) in answer.content[0].text
    assert json.dumps(about["recipe"]) in answer.content[0].text
    with sao_onnx.load(miniature, threads=1) as engine:
        expected = engine.generate("rain", seconds=0.2, steps=3, seed=1)
    assert path.read_bytes() == expected.encoded()
    fractions = [fraction for fraction, _, _ in told]
    assert fractions == sorted(set(fractions))
    assert {total for _, total, _ in told} == {1.0}
    assert told[-1][0] == 1
    # What lies between may be left out where the client is slow, but not the end.
    assert told[-1][2] == "step 3 of 3"


def test_from_clip_to_clip(asking):
    first = asking.make("loop", prompt="drums", bpm=240, bars=1, steps=1, seed=5)
    assert first["seconds"] == 1.0
    other = asking.make("vary", clip=first["clip"], init_noise_level=0.5, steps=2, seed=6, format="flac")
    assert other["seconds"] == first["seconds"]
    assert other["recipe"]["prompt"] == first["recipe"]["prompt"]
    assert other["recipe"]["init_audio"] == first["clip"]
    kept = asking.make("vary", clip=first["file"], regenerate=[[0.5, 0.8]], prompt="snare", steps=1, seed=7)
    assert kept["seconds"] == first["seconds"]
    before, after = (soundfile.read(about["file"], dtype="int16")[0] for about in (first, kept))
    assert np.array_equal(before[: int(0.4 * 44100)], after[: int(0.4 * 44100)])
    assert not np.array_equal(before, after)
    longer = asking.make("extend", clip=other["clip"], extend=0.5, steps=1, seed=8)
    assert longer["seconds"] == 1.5
    assert np.array_equal(soundfile.read(longer["file"])[0][:40000], soundfile.read(other["file"])[0][:40000])
    assert asking.make("loop", prompt="wind", seconds=0.5, steps=1)["recipe"]["options"]["loop"] is True
    part = asking.make("vary", clip=longer["clip"], init_start=1.2, steps=1)
    assert part["seconds"] == pytest.approx(0.3, abs=0.001)
    assert read_provenance(part["file"]).seed == part["seed"]


def test_models_are_listed(asking, miniature):
    answer = asking.call(LIST_MODELS)
    [model] = answer.structured_content["models"]
    assert (model["name"], model["default"]) == ("bundle", True)
    assert model["prompts"]
    assert answer.content[0].text.startswith("bundle (the default): windows of ")


HOSTILE = ["../../evil", "/etc/evil", "..", ".", "CON", "a/b\\c", "~/evil", "-rf", "\u202egnp", "x" * 1500, "%2e%2e/evil"]


def test_names_stay_in_the_folder_and_replace_nothing(asking):
    outside = set(asking.folder.parent.rglob("*")) - set(asking.folder.rglob("*"))
    before = {path: path.read_bytes() for path in asking.folder.iterdir()}
    made = [asking.make("generate", prompt=name, name=name, **SHORT) for name in HOSTILE]
    made += [asking.make("generate", prompt=name, **SHORT) for name in HOSTILE[:3]]
    made += [asking.make("generate", prompt="rain", name="rain-on-a-roof", **SHORT)]
    assert {Path(about["file"]).parent for about in made} == {asking.folder}
    assert len({about["file"] for about in made}) == len(made)
    assert set(asking.folder.parent.rglob("*")) - set(asking.folder.rglob("*")) == outside
    assert {path: path.read_bytes() for path in before} == before
    assert asking.folder / "rain-on-a-roof-2.wav" in asking.folder.iterdir()


def test_clips_come_from_the_folder_alone(asking, tmp_path):
    inside = asking.make("generate", prompt="rain", name="inside", **SHORT)
    secret = asking.folder.parent / "secret.wav"
    secret.write_bytes(Path(inside["file"]).read_bytes())
    (asking.folder / "link.wav").symlink_to(secret)
    (asking.folder / "folder.wav").mkdir()
    (asking.folder / "notes.txt").write_text("x")
    if hasattr(os, "mkfifo"):
        os.mkfifo(asking.folder / "pipe.wav")
    names = [
        "../secret.wav",
        str(secret),
        "link.wav",
        "folder.wav",
        "notes.txt",
        "pipe.wav",
        "nothing.wav",
        "",
        ".",
        "x" * 5000,
        "folder.wav/../../secret.wav",
    ]
    for name in names:
        said = asking.refusal("vary", clip=name, prompt="rain", **SHORT)
        assert "clip" in said
        assert str(asking.folder) in said
    assert "'inside.wav'" in asking.refusal("vary", clip="insid.wav")
    (asking.folder / "noise.wav").write_bytes(b"no audio")
    assert "noise.wav" in asking.refusal("vary", clip="noise.wav", prompt="x")
    soundfile.write(asking.folder / "recorded.wav", np.zeros((4410, 2)), 44100)
    assert asking.refusal("vary", clip="recorded.wav").endswith("give a prompt")
    assert asking.make("vary", clip="recorded.wav", prompt="x", steps=1)["seconds"] == 0.1


@pytest.mark.parametrize(
    ("tool", "given", "said"),
    [
        ("generate", {}, "prompt is missing"),
        ("generate", {"prompt": " "}, "prompt is empty"),
        ("generate", {"prompt": "x", "stesp": 3}, "did you mean 'steps'?"),
        ("generate", {"prompt": "x", "clip": "a.wav"}, "no option 'clip'"),
        ("generate", {"prompt": "x", "init_audio": "/etc/passwd"}, "no option 'init_audio'"),
        ("generate", {"prompt": "x", "seconds": "3"}, "expected a finite number"),
        ("generate", {"prompt": "x", "seconds": 1e9}, "at most 120"),
        ("generate", {"prompt": ["x"]}, "expected text"),
        ("generate", {"prompt": "x", "format": "exe"}, "expected wav or flac"),
        ("generate", {"prompt": "x", "name": "a\0b"}, "holds a zero"),
        ("vary", {"clip": "a\0.wav"}, "holds a zero"),
        ("generate", {"prompt": "x", "name": 3}, "name is 3, expected text"),
        ("generate", {"prompt": "x", "model": "other"}, "known: bundle"),
        ("generate", {"prompt": "x", "seed": -1}, "expected 0 to 4294967295"),
        ("loop", {"prompt": "x", "bpm": 120}, "a loop needs bpm and bars"),
        ("extend", {"clip": "a.wav"}, "extend is missing"),
    ],
)
def test_a_mistake_is_told_so_that_it_can_be_mended(asking, tool, given, said):
    assert said in asking.refusal(tool, **given)


def test_an_unknown_tool(asking):
    with pytest.raises(MCPError, match="there is no tool 'sing'; known: generate, vary, loop, extend, list_models"):
        asking.call("sing")


def test_two_calls_at_the_same_time(asking):
    waiting = [asking.begin("generate", prompt="rain", name="twin", **SHORT | {"steps": 5}) for _ in range(2)]
    found = [future.result(GUARD).structured_content["file"] for future in waiting]
    assert {Path(file).name for file in found} == {"twin.wav", "twin-2.wav"}
    assert len({Path(file).read_bytes() for file in found}) == 1


def test_a_call_that_is_cancelled(asking):
    """It ends before its next step, or the next call, which waits for it, would wait for an hour."""
    before = set(asking.folder.iterdir())
    begun = threading.Event()

    async def progress(fraction: float, total: float | None, message: str | None) -> None:
        if message and STEP.match(message):
            begun.set()

    future = asking.begin("generate", progress, **ENDLESS)
    assert begun.wait(GUARD)
    future.cancel()
    after = asking.make("generate", prompt="wind", **SHORT)
    assert set(asking.folder.iterdir()) - before == {Path(after["file"])}


def test_a_client_of_the_former_protocol(tmp_path, miniature):
    with assistant(tmp_path / "clips", miniature, "legacy") as asking:
        assert asking.client.protocol_version < "2026"
        tools = asking.portal.call(asking.client.list_tools).tools
        assert [tool.name for tool in tools] == [*TOOLS, LIST_MODELS]
        assert asking.make("generate", prompt="rain", **SHORT)["clip"] == "rain-1.wav"


def _spoken(message: dict[str, Any]) -> str:
    return json.dumps({"jsonrpc": "2.0"} | message) + "\n"


HELLO = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}
NOISY = """
import os, sys
from sao_onnx.engine import Engine

plan = Engine.plan


def noisy(self, request):
    print("noise")
    os.write(1, b"noise\\n")
    os.system("echo noise")
    return plan(self, request)


Engine.plan = noisy
from sao_onnx.cli import main

main()
"""


def test_a_client_that_goes_away(tmp_path, miniature):
    """The server ends by itself, in the middle of a clip, and stdout had nothing but the protocol."""
    command = [sys.executable, "-c", NOISY, *arguments(tmp_path / "clips", miniature)[2:]]
    log = (tmp_path / "log").open("w+")
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": log, "text": True}
    with log, started(command, env=os.environ | environment(), **pipes) as process:
        asked = {"name": "generate", "arguments": ENDLESS, "_meta": {"progressToken": 1}}
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(_spoken({"id": 1, "method": "initialize", "params": HELLO}))
        process.stdin.write(_spoken({"method": "notifications/initialized"}))
        process.stdin.write(_spoken({"id": 2, "method": "tools/call", "params": asked}))
        process.stdin.flush()
        said = ""
        while not STEP.search(said):
            said = process.stdout.readline()
            assert json.loads(said)["jsonrpc"] == "2.0"
        rest, _ = process.communicate(timeout=GUARD)  # Closes its stdin.
        assert all(json.loads(line)["jsonrpc"] == "2.0" for line in rest.splitlines())
        assert process.returncode == 0
    assert "noise" in (tmp_path / "log").read_text()
    assert list((tmp_path / "clips").iterdir()) == []


STUCK = """
import sys, threading
from sao_onnx.engine import Engine

stream = Engine.stream


def stuck(self, request):
    for event in stream(self, request):
        yield event
        threading.Event().wait(600)


Engine.stream = stuck
from sao_onnx.cli import main

main()
"""


def test_a_step_that_outlasts_the_client(tmp_path, miniature):
    command = [sys.executable, "-c", STUCK, *arguments(tmp_path / "clips", miniature)[2:]]
    asked = {"name": "generate", "arguments": ENDLESS, "_meta": {"progressToken": 1}}
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with started(command, env=os.environ | environment(), **pipes) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(_spoken({"id": 1, "method": "initialize", "params": HELLO}))
        process.stdin.write(_spoken({"method": "notifications/initialized"}))
        process.stdin.write(_spoken({"id": 2, "method": "tools/call", "params": asked}))
        process.stdin.flush()
        while "step 0 " not in process.stdout.readline():
            pass
        _, said = process.communicate(timeout=GUARD / 4)
        assert process.returncode == 0, said
        assert "terminate" not in said


@pytest.mark.skipif(sys.platform != "linux", reason="programs are watched by the means of Linux")
def test_nothing_is_sent_and_nothing_else_is_left(tmp_path, miniature):
    root = tmp_path / "root"
    command = [sys.executable, *arguments(root / "work" / "clips", miniature)]
    asked = {"name": "generate", "arguments": {"prompt": "rain", **SHORT}}
    with watched(root, command, stdin=subprocess.PIPE) as seen:
        process = seen.process
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(_spoken({"id": 1, "method": "initialize", "params": HELLO}))
        process.stdin.write(_spoken({"method": "notifications/initialized"}))
        process.stdin.write(_spoken({"id": 2, "method": "tools/call", "params": asked}))
        process.stdin.flush()
        answers = [json.loads(process.stdout.readline()) for _ in range(2)]
        process.communicate(timeout=GUARD)
    assert answers[1]["result"]["structuredContent"]["clip"] == "rain-1.wav"
    assert seen.reached_out() == []
    assert seen.left() == {"work/clips/rain-1.wav", "state/sao-onnx/checked"}
    assert seen.written_elsewhere() == set()


@pytest.mark.skipif(sys.platform == "win32", reason="signals are those of POSIX")
def test_a_signal_ends_it(tmp_path, miniature):
    command = [sys.executable, *arguments(tmp_path / "clips", miniature)]
    with started(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        wait_until((tmp_path / "clips").exists, process)
        process.terminate()
        _, said = process.communicate(timeout=GUARD)
        assert process.returncode == 130
        assert "Traceback" not in said


def test_every_option_is_offered():
    assert {name for tool in TOOLS.values() for name in tool.options} == set(kinds()) - NOT_IN_JSON - {"loop"}


@pytest.mark.parametrize("tool", TOOLS.values(), ids=TOOLS)
def test_schemas_are_derived_and_plain(tool, tmp_path):
    found = schema(tool, ["one", "two"], Limits(seconds=7, steps=9))
    jsonschema.Draft202012Validator.check_schema(found)
    assert set(tool.needs) <= found["properties"].keys()
    for name, about in found["properties"].items():
        assert isinstance(about["type"], str)
        assert about["description"]
        # What only a command line has.
        assert not re.search(r"--|FROM|init-audio|inspect", about["description"])
        if name in kinds() and kinds()[name].choices:
            assert about["enum"] == list(kinds()[name].choices)
    for name in ("seconds", "extend", "steps"):
        if name in found["properties"]:
            assert found["properties"][name]["maximum"] == (9 if name == "steps" else 7)


def test_what_is_valid_by_its_schema_can_be_asked_for(tmp_path):
    """Each option with a value that its schema allows."""
    values = {"number": 1.5, "integer": 2, "string": "words", "boolean": True, "array": [[0, 1]], "object": {"bpm": 100}}
    folder = Folder(tmp_path)
    soundfile.write(tmp_path / "a.wav", np.zeros(4410), 44100)
    for tool in TOOLS.values():
        properties = schema(tool, ["one"], Limits())["properties"]
        for name in tool.options:
            about = properties[name]
            value = about["enum"][0] if "enum" in about else values[about["type"]]
            if not isinstance(value, (str, bool, list, dict)):
                value = min(max(value, about.get("minimum", value)), about.get("maximum", value))
            given = {"prompt": "x", "bpm": 100, "bars": 1, "extend": 1, "clip": "a.wav"}
            given = {key: one for key, one in given.items() if key in tool.needs or key == "prompt"} | {name: value}
            jsonschema.validate(given, schema(tool, ["one"], Limits()))
            assert getattr(call(tool, given, folder, Limits()).request, name) is not None


@pytest.mark.parametrize("place", ["file", "missing/clips", "a\0b"])
def test_folders_that_cannot_be(tmp_path, place):
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match=r"expected a folder|does not exist|cannot be made"):
        Folder(tmp_path / place)


def test_addresses_are_no_folders():
    with pytest.raises(FileError, match="s3://bucket/clips is an address, expected a folder on this machine"):
        Folder(Path("s3://bucket/clips"))
    with pytest.raises(FileError, match=r"^s3:clips looks like the address s3://clips, expected a folder on this machine"):
        Folder(Path("s3:clips"))


def test_a_folder_stays_the_one_that_it_was(tmp_path, monkeypatch):
    (tmp_path / "one").mkdir()
    monkeypatch.chdir(tmp_path / "one")
    folder = Folder(Path("clips"))
    monkeypatch.chdir(tmp_path)
    assert folder.path == (tmp_path / "one" / "clips").resolve()
    with pytest.raises(RequestError, match="it has none yet"):
        folder.clip("a.wav")


def test_the_command_without_the_extra(tmp_path):
    hidden = "import sys; sys.modules['mcp'] = sys.modules['mcp_types'] = None; from sao_onnx.cli import main; main()"
    done = run([sys.executable, "-c", hidden, "mcp", tmp_path / "clips"])
    assert (done.returncode, done.stdout) == (1, "")
    assert (
        done.stderr == "error: the Model Context Protocol needs mcp 2 or later; install it with: pip install 'sao-onnx[mcp]'\n"
    )
    assert not (tmp_path / "clips").exists()
