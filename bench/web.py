"""Measures the page that makes clips: `npm run page` in engine/web, then `python -m bench.web`. Needs playwright."""

from __future__ import annotations

import contextlib
import gzip
import os
import platform
import re
import shutil
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from bench.common import processor
from sao_onnx import load

HERE = Path(__file__).parent
SITE = HERE.parent / "engine" / "web" / "site"
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
ARGUMENTS = (
    *("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--no-first-run", "--autoplay-policy=no-user-gesture-required", "--disable-dev-shm-usage"),
)
ISOLATION = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
}
"""Headers with which a host isolates a page, so that it may have threads with shared memory."""

PROMPT, SEED, SECONDS = "short kick drum", 42, 2
CLIPS = 3


class _Handler(SimpleHTTPRequestHandler):
    def __init__(self, *arguments: Any, headers: dict[str, str], asked: list[str], **options: Any) -> None:
        self._added, self._asked = headers, asked
        super().__init__(*arguments, **options)

    def end_headers(self) -> None:
        for name, value in self._added.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, format: str, *arguments: Any) -> None:
        self._asked.append(str(self.path))


@contextlib.contextmanager
def served(folder: Path, *, isolated: bool) -> Iterator[tuple[str, list[str]]]:
    """A static server of a folder on this machine: its address, and the paths that it is asked for."""
    asked: list[str] = []
    handler = partial(_Handler, directory=str(folder), headers=ISOLATION if isolated else {}, asked=asked)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/", asked
        finally:
            server.shutdown()
            thread.join()


def make(page: Any, count: int, *, seconds: float = SECONDS, steps: int = 8, prompt: str = PROMPT) -> Any:
    """Ask the page for a clip and wait for it; the list's entry. `count` is how many clips there are then."""
    fields = {"#prompt": prompt, "#seconds": str(seconds), "#steps": str(steps), "#seed": str(SEED)}
    for field, value in fields.items():
        page.fill(field, value)
    page.click("#make")
    done = "count => document.querySelectorAll('#clips li').length >= count || document.querySelector('#problem').textContent"
    page.wait_for_function(done, arg=count)
    if problem := page.inner_text("#problem"):
        raise RuntimeError(problem)
    return page.locator("#clips li").first


def _row(browser: Any, isolated: bool) -> str:
    with served(SITE, isolated=isolated) as (address, _):
        page = browser.new_page()
        page.set_default_timeout(600_000)
        page.goto(address)
        took = [float(make(page, i + 1).get_attribute("data-took")) for i in range(CLIPS)]
        loaded = re.search(r"loaded in ([\d.]+) s", page.inner_text("#size"))
        threads = re.search(r"with (\d+) thread", page.inner_text("#clips"))
        assert loaded is not None
        assert threads is not None
        page.close()
    return f"| {threads[1]} | {loaded[1]} | {took[0]:.1f} | {min(took[1:]):.1f} |"


def _python(threads: int) -> float:
    with load(threads=threads, tuned=False) as engine:
        return min(engine.generate(PROMPT, seconds=SECONDS, seed=SEED).timings.total for _ in range(CLIPS))


def _sizes() -> list[str]:
    groups = {
        "ONNX Runtime, WebAssembly": ["ort-*"],
        "the model": ["model/**/*"],
        "page and engine": ["*.js", "*.html", "*.css"],
    }
    rows = []
    for name, patterns in groups.items():
        found = {path for pattern in patterns for path in SITE.glob(pattern) if path.is_file()}
        files = [path for path in found if not path.name.startswith("encoder")]  # Later clips alone may need it.
        packed = sum(len(gzip.compress(path.read_bytes(), 9)) for path in files)
        rows.append(f"| {name} | {sum(path.stat().st_size for path in files) / 1e6:.2f} | {packed / 1e6:.2f} |")
    return rows


def main() -> None:
    """Measure, and write bench/results/web.md."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))
        version = browser.version
        rows = [_row(browser, isolated) for isolated in (False, True)]
        browser.close()
    load_average = f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"
    about = f"{processor()}, {os.cpu_count()} cores, load {load_average}, {platform.system()}; Chromium {version}; "
    about += f"sao-tiny in int8, {SECONDS} s of sound, 8 steps, the whole window is sampled"
    lines = [
        "# In a browser",
        "",
        f"{about}: `npm run page` in engine/web, then `python -m bench.web`. Seconds.",
        "",
        "| threads | load from this machine | first clip | best of the next two |",
        "|---|---|---|---|",
        *rows,
        "",
        f"The same clip from the Python engine, best of {CLIPS}: {_python(1):.2f} s with one thread.",
        "",
        "What the first clip loads, in MB:",
        "",
        "| what | as it is | with gzip |",
        "|---|---|---|",
        *_sizes(),
        "",
    ]
    (HERE / "results" / "web.md").write_text("\n".join(lines), encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
