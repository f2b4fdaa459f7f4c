"""The page that makes clips in the browser is part of the site where it can be built: with node, in `engine/web`.

`npm ci --ignore-scripts` there, once, and then `make docs`. Without it the site says how to get the page.
"""

from __future__ import annotations

import logging
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

WEB = Path(__file__).resolve().parents[2] / "engine" / "web"
FOLDER = "clips-in-the-browser"
"""Of the page, in the site."""

MARK = "<!-- the page -->"

HERE = f'<a class="md-button md-button--primary" href="{FOLDER}/index.html">Make clips in this browser</a>'
NOT_HERE = "This copy of the site was built without it."

logger = logging.getLogger("mkdocs.hooks.browser")


def on_pre_build(config: MkDocsConfig) -> None:
    """Build the page, if its tools are there."""
    npm = shutil.which("npm")
    if npm is None or not (WEB / "node_modules").is_dir():
        logger.info("the page that makes clips in the browser is left out: run `npm ci --ignore-scripts` in engine/web")
        return
    subprocess.run([npm, "run", "page"], cwd=WEB, check=True, stdout=subprocess.DEVNULL)


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Link to the page, or say that it is not there."""
    return markdown.replace(MARK, HERE if _built() else NOT_HERE)


def on_post_build(config: MkDocsConfig) -> None:
    """Copy the page into the site."""
    if _built():
        shutil.copytree(WEB / "site", Path(config.site_dir) / FOLDER, dirs_exist_ok=True)


def _built() -> bool:
    return (WEB / "site" / "index.html").is_file()
