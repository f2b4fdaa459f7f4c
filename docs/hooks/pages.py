"""Makes the navigation of what is there: `*` in it stands for all such pages, of which there may be none."""

from __future__ import annotations

import fnmatch
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Put pages into the places of the patterns."""
    config.nav = expanded(config.nav, sorted(file.src_uri for file in files.documentation_pages()))
    return files


def expanded(nav: Any, pages: list[str]) -> Any:
    """A navigation without patterns, whose order among themselves is that of `index.md`, then of the letters.

    Args:
        nav: As in mkdocs.yml.
        pages: All that there are.
    """
    if isinstance(nav, dict):
        return {title: expanded(part, pages) for title, part in nav.items()}
    if not isinstance(nav, list):
        return nav
    found: list[Any] = []
    for part in nav:
        if isinstance(part, str) and "*" in part:
            matching = [page for page in pages if fnmatch.fnmatch(page, part)]
            found += sorted(matching, key=lambda page: (not page.endswith("index.md"), page))
        else:
            found.append(expanded(part, pages))
    return found
