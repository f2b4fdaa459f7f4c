"""The programs of the pages about embedding run as they are printed."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer.main

from bench.frozen import APPLICATION
from sao_onnx.cli.commands import app
from sao_onnx.mcp.tools import TOOLS
from tests.conftest import ROOT
from tests.processes import started, succeed

PAGES = ROOT / "docs" / "embedding"


def blocks(page: str, language: str) -> list[str]:
    """The blocks of code of a page in a language."""
    text = (PAGES / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.S | re.M)


@pytest.fixture
def program(tmp_path):
    """Writes the blocks of a page as modules and runs a script beside them; what it printed."""

    def run(page, names, script, *arguments, **variables):
        for name, block in zip(names, blocks(page, "python"), strict=False):
            (tmp_path / f"{name}.py").write_text(block, encoding="utf-8")
        (tmp_path / "script.py").write_text(GATED + script, encoding="utf-8")
        path = os.pathsep.join([*map(str, (ROOT / "engine", ROOT)), os.environ.get("PYTHONPATH", "")])
        return succeed(
            [sys.executable, "-W", "error", "script.py", *arguments],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": path} | variables,
        )

    return run


GATED = '''
import queue, sys, time
from pathlib import Path

import sao_onnx


class Gated:
    """An engine that makes each step when the script lets it."""

    def __init__(self, engine):
        self.engine, self.bundle, self.gate, self.ended = engine, engine.bundle, queue.SimpleQueue(), 0

    def stream(self, prompt):
        try:
            for event in self.engine.stream(prompt, seconds=0.2, steps=3, seed=5):
                self.gate.get()
                yield event
        finally:
            self.ended += 1


def until(condition):
    begun = time.monotonic()
    while not condition():
        assert time.monotonic() < begun + 300, "it hangs"
        pump()
        time.sleep(0.005)


def pump():
    pass


real = sao_onnx.load(sys.argv[1], threads=1)
engine = Gated(real)
'''

WINDOW = """
# The engine waits, and the window lives: what is typed arrives.
press(window.make)
until(lambda: not enabled(window.make) and enabled(window.cancel))
type_in("words")
assert typed() == "words"
# It shows every event.
shown = [bar()]
while not said():
    engine.gate.put(None)
    until(lambda: said() or bar() != shown[-1])
    shown.append(bar())
assert len([value for value in shown if value]) >= 5 and shown[:-1] == sorted(shown[:-1]), shown
assert said() == "saved as clip-5.wav", said()
expected = real.generate("short kick drum", seconds=0.2, steps=3, seed=5).encoded()
assert Path("clip-5.wav").read_bytes() == expected
assert enabled(window.make) and not enabled(window.cancel)

# Cancelled in the middle, and nothing works on.
type_in("rain")
press(window.make)
until(lambda: enabled(window.cancel))
engine.gate.put(None)
until(lambda: bar() > 0)
press(window.cancel)
engine.gate.put(None)
until(lambda: said() == "cancelled")
until(lambda: engine.ended == 2)
assert engine.gate.empty()

# A mistake is told.
type_in("x" * 200_000)
press(window.make)
until(lambda: "characters" in said())

# The clip of the first words is there, and is not replaced.
type_in("rain")
press(window.make)
for _ in range(30):
    engine.gate.put(None)
until(lambda: "exists" in said())
assert Path("clip-5.wav").read_bytes() == expected

# Closed in the middle: the program ends.
while not engine.gate.empty():
    engine.gate.get()
press(window.make)
until(lambda: enabled(window.cancel))
engine.gate.put(None)
engine.gate.put(None)
window.close()
print("closed")
"""

TK = """
import tk_window

window = tk_window.Window(engine)
pump = window.update
press = lambda button: button.invoke()
enabled = lambda button: str(button["state"]) != "disabled"
said = lambda: str(window.status["text"])
bar = lambda: float(window.bar["value"])
typed = lambda: window.prompt.get()


def type_in(text):
    window.prompt.delete(0, "end")
    window.prompt.insert(0, text)
    window.update()
"""

QT = """
import qt_window
from PySide6 import QtWidgets

application = QtWidgets.QApplication([])
window = qt_window.Window(engine)
window.prompt.setMaxLength(1_000_000)
window.show()
pump = application.processEvents
press = lambda button: button.click()
enabled = lambda button: button.isEnabled()
said = lambda: window.status.text()
bar = lambda: window.bar.value()
typed = lambda: window.prompt.text()


def type_in(text):
    window.prompt.setText(text)
    application.processEvents()
"""


@pytest.fixture
def display(tmp_path):
    """A screen that nobody sees."""
    if sys.platform != "linux":
        return os.environ.get("DISPLAY", "")
    server = shutil.which("Xvfb")
    if server is None:
        pytest.skip("Xvfb is not installed")
    reading, writing = os.pipe()
    command = [server, "-displayfd", str(writing), "-screen", "0", "800x600x24", "-nolisten", "tcp"]
    with started(command, pass_fds=[writing], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        os.close(writing)
        with os.fdopen(reading) as told:
            number = told.readline().strip()
        assert process.poll() is None
        yield f":{number}"


def test_tk(program, miniature, display):
    pytest.importorskip("tkinter", reason="this Python has no Tk")
    assert program("tk.md", ["tk_window"], TK + WINDOW, miniature, DISPLAY=display) == "closed\n"


def test_qt(program, miniature):
    pytest.importorskip("PySide6.QtWidgets", reason="PySide6 is not installed", exc_type=ImportError)
    assert program("qt.md", ["qt_window"], QT + WINDOW, miniature, QT_QPA_PLATFORM="offscreen") == "closed\n"


SOUNDS = """
from sounds import Sounds

made = Sounds(real, "cache", seconds=0.2, steps=1)
assert made.get("kick", 1) is None
assert made.get("kick", 1) is None or len(made.asked) == 1
until(lambda: made.get("kick", 1))
path = made.get("kick", 1)
assert path.read_bytes() == real.generate("kick", seed=1, seconds=0.2, steps=1).encoded()
until(lambda: made.get("kick", 2))
assert made.get("kick", 2) != path
# What cannot be made ends nothing.
made.get("x" * 200_000, 1)
until(lambda: made.failed)
until(lambda: made.get("snare", 1))
assert len(list(Path("cache").iterdir())) == 3


class Idle:
    bundle = real.bundle

    def stream(self, *arguments, **options):
        raise AssertionError("it is there already")


again = Sounds(Idle(), "cache", seconds=0.2, steps=1)
assert again.get("kick", 1) == path
# Another length is another sound; here one that would take an hour, and the program ends all the same.
endless = Sounds(real, "cache", steps=1_000_000)
assert endless.get("kick", 1) is None
until(endless.waiting.empty)
for one in (made, again, endless):
    one.close()
assert len(list(Path("cache").iterdir())) == 3
print("heard")
"""


def test_sounds_of_a_game(program, miniature):
    assert program("game.md", ["sounds"], SOUNDS, miniature) == "heard\n"


GAME = """
import threading
import pygame

load = sao_onnx.load
sao_onnx.load = lambda **options: load(sys.argv[1], **options)
import game


def play():
    cache = Path("sound-cache")
    while not cache.is_dir() or len(list(cache.glob("*.wav"))) < 4:
        time.sleep(0.01)
    for kind, about in ((pygame.MOUSEBUTTONDOWN, {"pos": (250, 50), "button": 1}), (pygame.QUIT, {})):
        pygame.event.post(pygame.event.Event(kind, about))


threading.Thread(target=play).start()
[played] = game.main()
assert played.exists()
assert game.main(frames=3) == []
print("played")
"""


def test_game(program, miniature):
    if importlib.util.find_spec("pygame") is None:
        pytest.skip("pygame is not installed")
    silent = {"SDL_VIDEODRIVER": "dummy", "SDL_AUDIODRIVER": "dummy", "PYGAME_HIDE_SUPPORT_PROMPT": "1"}
    assert program("game.md", ["sounds", "game"], GAME, miniature, **silent) == "played\n"


BOT = """
import asyncio, threading
import studio


class Held:
    def __init__(self):
        self.go, self.running, self.most = asyncio.Event(), 0, 0

    async def agenerate(self, prompt, **options):
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await self.go.wait()
            return await real.agenerate(prompt, seconds=0.2, steps=1, seed=3)
        finally:
            self.running -= 1


async def refused(made):
    try:
        await made
    except RuntimeError as error:
        return str(error)


async def main():
    held = Held()
    made = studio.Studio(held)
    tasks = [asyncio.create_task(made.make("kick")) for _ in range(studio.MOST_WAITING)]
    await asyncio.sleep(0)
    assert "too many" in await refused(made.make("kick"))
    held.go.set()
    clips = await asyncio.gather(*tasks)
    assert held.most == 1, "one at a time"
    assert {data[:4] for data in clips} == {b"OggS"} and len(set(clips)) == 1
    # A real clip of an hour's work: the loop is free, its limit of time ends it, and the next one comes.
    made, studio.LONGEST = studio.Studio(real), 0.3
    ticks = 0

    async def tick():
        nonlocal ticks
        while True:
            await asyncio.sleep(0.01)
            ticks += 1

    ticking = asyncio.create_task(tick())
    assert "too long" in await refused(made.make("rain", steps=1_000_000))
    ticking.cancel()
    assert ticks > 2
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("sao-onnx")]
    studio.LONGEST = 600
    assert "expected" in await refused(made.make("rain", seconds=-1))
    assert (await made.make("rain", seconds=0.2, steps=1))[:4] == b"OggS"
    assert made.waiting == 0


asyncio.run(main())
print("answered")
"""


def test_bot(program, miniature):
    assert program("bot.md", ["studio"], BOT, miniature) == "answered\n"


DISCORD = """
import os
import discord

os.environ["DISCORD_TOKEN"] = "none"
ran = []
discord.Client.run = lambda self, token: ran.append(token)
sao_onnx.load = lambda: real
import bot

[command] = bot.commands.get_commands()
assert (command.name, command.description, [p.name for p in command.parameters]) == ("sound", "Make a sound", ["prompt"])
assert ran == ["none"]
print("ready")
"""


def test_bot_of_discord(program, miniature):
    if importlib.util.find_spec("discord") is None:
        pytest.skip("discord.py is not installed")
    # It warns of what its own imports use.
    assert program("bot.md", ["studio", "bot"], "import warnings; warnings.simplefilter('ignore')\n" + DISCORD, miniature) == (
        "ready\n"
    )


@pytest.mark.parametrize("page", sorted(path.name for path in PAGES.glob("*.md")))
def test_programs_can_be_read(page):
    for block in blocks(page, "python"):
        ast.parse(block)


def test_the_frozen_application_is_the_measured_one():
    assert blocks("frozen.md", "python")[0].strip() == APPLICATION.strip()


def test_figures_of_frozen_applications_are_those_that_were_measured():
    measured = (ROOT / "bench" / "results" / "frozen.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (.+?) \| (\d*) \| ([\d.]+ s) \| ([\d.]+ s) \|$", measured, re.M)
    text = (PAGES / "frozen.md").read_text(encoding="utf-8")
    assert len(rows) == 9
    for title, *figures in rows:
        assert f"| {title} | {' | '.join(figures)} |" in text


def test_configurations_for_assistants():
    text = (ROOT / "docs" / "mcp.md").read_text(encoding="utf-8")
    for name, tool in TOOLS.items():
        [needs] = re.findall(rf"^\| `{name}` \|.*\| ([^|]+) \|$", text, re.M)
        assert tuple(re.findall(r"`(\w+)`", needs)) == tool.needs
    found = re.findall(r"^```json\n(.*?)^```$", text, re.S | re.M)
    assert len(found) == 2
    command = typer.main.get_command(app).commands["mcp"]  # type: ignore[attr-defined]
    for block in found:
        [servers] = json.loads(block).values()
        for server in servers.values():
            assert Path(server["command"]).name == "sao-onnx"
            assert server["args"][0] == "mcp"
            given = command.make_context("mcp", server["args"][1:]).params
            assert Path(given["folder"]).is_absolute()
