"""The documentation as a site: it builds without a warning, its reference is not empty, and it loads nothing from other hosts.

It needs the extra `docs`: `.venv-docs/bin/python -m pytest tests/test_site.py` after `make docs`.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

import sao_onnx
from docs.hooks import included, pages, tables
from tests.conftest import ROOT
from tests.processes import run

LOADING = {
    "script": "src",
    "img": "src",
    "audio": "src",
    "source": "src",
    "iframe": "src",
    "link": "href",
    "form": "action",
    "object": "data",
    "video": "src",
}
"""Elements that load something, and the attribute that says what."""


class Elements(HTMLParser):
    """All elements of a page, and the text of its headings."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The site, with the address of no repository."""
    for library in ("mkdocs", "material", "mkdocstrings"):
        pytest.importorskip(library, reason="needs the extra docs")
    folder = tmp_path_factory.mktemp("site")
    environment = {name: value for name, value in os.environ.items() if name != "SAO_ONNX_REPOSITORY"}
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder]
    done = run(command, cwd=ROOT, env=environment | {"NO_MKDOCS_2_WARNING": "1"})
    assert done.returncode == 0, done.stderr
    return Path(folder)


@pytest.fixture(scope="module")
def elements(site) -> dict[str, list[tuple[str, dict[str, str | None]]]]:
    """The elements of each page, by its name."""
    found = {}
    for path in site.rglob("*.html"):
        if "clips-in-the-browser" not in path.parts:
            parser = Elements()
            parser.feed(path.read_text(encoding="utf-8"))
            found[path.relative_to(site).as_posix()] = parser.found
    return found


def test_nothing_is_loaded_from_other_hosts(site, elements):
    assert len(elements) > 30
    for page, found in elements.items():
        loaded = [attributes.get(LOADING[tag]) or "" for tag, attributes in found if tag in LOADING]
        assert [address for address in loaded if re.match(r"(?i)[a-z]+:(?!image)|//", address)] == [], page
    for path in site.rglob("*.css"):
        text = re.sub(r"/\*.*?\*/", "", path.read_text(encoding="utf-8"), flags=re.S)
        assert not re.search(r"url\(\s*[\"']?(?:https?:)?//|@import", text), path


def test_what_is_loaded_is_there(site, elements):
    for page, found in elements.items():
        for tag, attributes in found:
            address = attributes.get("href" if tag == "a" else LOADING.get(tag, "")) or ""
            if not address or re.match(r"[a-z]+:|#", address) or page == "404.html":
                continue
            file = (site / page).parent / address.partition("#")[0].partition("?")[0]
            assert file.exists(), f"{page}: {address}"


def test_pictures_are_told_and_headings_are_in_order(elements):
    for page, found in elements.items():
        for tag, attributes in found:
            assert tag != "img" or attributes.get("alt"), page
            assert tag != "audio" or attributes.get("aria-label"), page
        assert [attributes.get("lang") for tag, attributes in found if tag == "html"] == ["en"]
        levels = [int(tag[1]) for tag, _ in found if re.fullmatch(r"h[1-6]", tag)]
        assert page == "404.html" or levels[0] == 1, page


@pytest.mark.parametrize("name", sorted(set(sao_onnx.__all__)))
def test_the_reference_has_what_is_public(site, name):
    text = "".join(path.read_text(encoding="utf-8") for path in (site / "api").glob("*.html"))
    home = sao_onnx._HOMES[name]
    assert f'id="sao_onnx.{name}"' in text or f'id="sao_onnx.{home}.{name}"' in text


def test_the_reference_says_something(site):
    """Of functions and classes the docstrings, of a class what it has, of a request every option."""
    text = re.sub(r"<[^>]+>", "", (site / "api" / "index.html").read_text(encoding="utf-8"))
    for words in (
        "Open a bundle for generating",
        "What the engine would do for a request",
        "Sampling steps.",
        "Cut off what is more than 60 dB below the peak",
    ):
        assert words in text, words
    page = (site / "api" / "index.html").read_text(encoding="utf-8")
    for method in ("generate", "stream", "astream", "generate_many", "plan", "run", "decode", "unload"):
        assert re.search(rf'id="sao_onnx(\.engine)?\.Engine\.{method}"', page), method
    errors = (site / "api" / "errors.html").read_text(encoding="utf-8")
    module = importlib.import_module("sao_onnx.errors")
    assert [name for name in dir(module) if name.endswith("Error") and f'id="sao_onnx.errors.{name}"' not in errors] == []


def test_a_sound_has_a_player(site):
    text = (site / "start.html").read_text(encoding="utf-8")
    assert '<audio controls preload="none" src="sounds/kick.ogg"' in text


def test_options_come_from_the_command_line(site):
    text = (site / "commands.html").read_text(encoding="utf-8")
    assert "<!-- options of" not in text
    for name in ("--seconds", "--key-file", "--lora", "--budget"):
        assert f"<code>{name}" in text
    with pytest.raises(ValueError, match="no heading 'Nothing'"):
        tables.table(["gen"], ["Nothing"])


def test_links_lead_to_what_files_became(monkeypatch):
    """From one place of the repository to another, in the site; where a file is no page, to the repository or nowhere."""
    monkeypatch.delenv("SAO_ONNX_REPOSITORY", raising=False)
    text = "[a](../../models/BUNDLE.md#noise) `[b](c.md)` [`d`](../../hatch_build.py) ![e](../pictures/x.png)"
    made = included.rewritten(text, "docs/options/sound.md", "options/sound.md")
    assert made == "[a](../bundle.md#noise) `[b](c.md)` `d` ![e](../pictures/x.png)"
    monkeypatch.setenv("SAO_ONNX_REPOSITORY", "https://example.invalid/a/b/")
    made = included.rewritten("[`d`](../hatch_build.py) [e](../tests)", "models/BUNDLE.md", "bundle.md")
    assert (
        made == "[`d`](https://example.invalid/a/b/blob/HEAD/hatch_build.py) [e](https://example.invalid/a/b/tree/HEAD/tests)"
    )


def test_a_pattern_in_the_navigation_stands_for_what_is_there():
    nav = ["index.md", {"More": ["x/*.md", "none*.md"]}]
    assert pages.expanded(nav, ["index.md", "x/a.md", "x/index.md"]) == ["index.md", {"More": ["x/index.md", "x/a.md"]}]
