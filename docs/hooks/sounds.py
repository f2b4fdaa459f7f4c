"""A link to a sound becomes a player with the link beside it."""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

LINK = re.compile(r'<a href="(?P<address>[^"]+\.ogg)">(?P<words>.*?)</a>', re.S)


def on_page_content(content: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Add the players. Nothing is loaded before somebody plays it."""
    return LINK.sub(_player, content)


def _player(match: re.Match[str]) -> str:
    words = html.escape(re.sub(r"<[^>]+>", "", match["words"]), quote=True)
    player = f'<audio controls preload="none" src="{match["address"]}" aria-label="{words}"></audio>'
    return f'<span class="sound">{player} {match[0]}</span>'
