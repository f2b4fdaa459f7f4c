"""Documents that live elsewhere in the repository are pages of the site, too, and links between all of them work.

A page links to files as they lie in the repository, so that links work there. In the site they lead to the page or the picture
that the file has become, and to the repository for all other files. Where the repository is, is not written into the project:
whoever builds the site says it, as SAO_ONNX_REPOSITORY. Without it, the words of such links stay and lead nowhere.
"""

from __future__ import annotations

import logging
import os
import posixpath
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]

PLACES = {
    "ARCHITECTURE.md": "project/architecture.md",
    "CHANGELOG.md": "project/changelog.md",
    ".github/CONTRIBUTING.md": "project/contributing.md",
    ".github/SECURITY.md": "project/security.md",
    ".github/CODE_OF_CONDUCT.md": "project/conduct.md",
    "engine/server/README.md": "http.md",
    "engine/server/page.png": "pictures/page.png",
    "engine/web/README.md": "web.md",
    "models/BUNDLE.md": "bundle.md",
    "models/sao_tiny/README.md": "sao-tiny.md",
    "models/sao_tiny/clips.png": "pictures/clips.png",
    "models/sao_tiny/kinds.png": "pictures/kinds.png",
    "README.md": "index.md",
}
"""Files of the repository, and what they are in the site. Links to the README lead to the home page, which stands for it."""

STANDING_FOR = ("README.md",)
"""Those that are not copied."""

FOLDERS = {"bench/results": "results"}
"""Folders whose documents and pictures are all in the site."""

LINK = re.compile(r"(?P<image>!)?\[(?P<text>(?:[^\[\]]|!\[[^\]]*\]\([^)]*\))*)\]\((?P<target>[^)\s]+)\)")
"""A link or an image in Markdown; a link may be around an image."""

CODE_OR_LINK = re.compile(rf"^```.*?^```$|{LINK.pattern}|`[^`\n]+`", re.S | re.M)
"""What looks like a link inside of code is none."""

ELSEWHERE = re.compile(r"[a-z][a-z0-9+.-]*:|#|/", re.I)
"""How a target begins that is no file of the repository."""

logger = logging.getLogger("mkdocs.hooks.included")


def places() -> dict[str, str]:
    """Paths in the repository, and in the site, of all that is included."""
    found = dict(PLACES)
    for folder, place in FOLDERS.items():
        for path in sorted((ROOT / folder).iterdir()):
            if path.suffix in (".md", ".png"):
                found[f"{folder}/{path.name}"] = f"{place}/{path.name}"
    return found


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add what is included."""
    from mkdocs.structure.files import File

    for path, place in places().items():
        if path not in STANDING_FOR:
            files.append(File.generated(config, place, abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lead the links of a page to where their files are in the site."""
    own = {place: path for path, place in places().items() if path not in STANDING_FOR}
    return rewritten(markdown, own.get(page.file.src_uri, f"docs/{page.file.src_uri}"), page.file.src_uri)


def rewritten(markdown: str, path: str, place: str) -> str:
    """The text of a page whose links are those of the site.

    Args:
        markdown: Its links are those of the repository.
        path: The page's, in the repository.
        place: The page's, in the site.
    """

    def lead(match: re.Match[str]) -> str:
        text, target = match["text"], match["target"]
        if "](" in text:
            text = LINK.sub(lead, text)
        if not ELSEWHERE.match(target):
            target = _target(target, path, place)
        image = match["image"] or ""
        return f"{image}[{text}]({target})" if target else text

    return CODE_OR_LINK.sub(lambda match: lead(match) if match["target"] else match[0], markdown)


def _target(target: str, path: str, place: str) -> str:
    """Where a link leads in the site; "" where it leads to a file of a repository whose address is not known."""
    file, mark, heading = target.partition("#")
    wanted = posixpath.normpath(posixpath.join(posixpath.dirname(path), file))
    found = places().get(wanted)
    if found is None and wanted.startswith("docs/"):
        found = wanted.removeprefix("docs/")
    if found is not None:
        return posixpath.relpath(found, posixpath.dirname(place) or ".") + mark + heading
    if not (ROOT / wanted).exists():
        logger.warning("%s links to %s, which is not there", path, target)
    repository = os.environ.get("SAO_ONNX_REPOSITORY", "").rstrip("/")
    kind = "tree" if (ROOT / wanted).is_dir() else "blob"
    return f"{repository}/{kind}/HEAD/{wanted}{mark}{heading}" if repository else ""
