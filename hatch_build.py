"""What a package index shows of the project: the README with links that work there, and the project's addresses.

The address of the repository and that of its maintainers are not written into the project: whoever releases gives them, as
SAO_ONNX_REPOSITORY and SAO_ONNX_CONTACT. Without them the README stays as it is and there are no addresses; nothing else
depends on it.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

NAME = "sao-onnx contributors"

LINK = re.compile(r"(?P<image>!)?(?P<text>\[[^\]]*\])\((?P<target>[^)\s]+)\)")
"""A link or an image in Markdown. A link around an image is read as the image; the README has none."""

ELSEWHERE = re.compile(r"[a-z][a-z0-9+.-]*:|#|/", re.I)
"""How a target begins that is no file of the repository."""


class Addresses(MetadataHookInterface):
    """Sets the fields `readme`, `urls`, `authors` and `maintainers`."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Set what an archive of the source, whose metadata were made before, has not yet."""
        repository = os.environ.get("SAO_ONNX_REPOSITORY", "").rstrip("/")
        tag = f"v{metadata['version']}"
        if "readme" not in metadata:
            text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
            text = absolute(text, repository, tag) if repository else text
            metadata["readme"] = {"content-type": "text/markdown", "text": text}
        contact = os.environ.get("SAO_ONNX_CONTACT", "").strip()
        person = {"name": NAME, "email": contact} if contact else {"name": NAME}
        for field in ("authors", "maintainers"):
            metadata.setdefault(field, [person])
        if repository and "urls" not in metadata:
            metadata["urls"] = {
                "Source": repository,
                "Documentation": f"{repository}/blob/{tag}/docs/index.md",
                "Changelog": f"{repository}/blob/{tag}/CHANGELOG.md",
                "Issues": f"{repository}/issues",
            }


def absolute(text: str, repository: str, tag: str) -> str:
    """Markdown whose links to files of the repository work anywhere.

    Args:
        text: Markdown; its links begin at the repository's root.
        repository: Address of the repository, without a stroke at its end.
        tag: The state of the repository to which links lead.
    """

    def lead(match: re.Match[str]) -> str:
        target = match["target"]
        if ELSEWHERE.match(target):
            return match[0]
        image = match["image"] or ""
        return f"{image}{match['text']}({repository}/{'raw' if image else 'blob'}/{tag}/{target})"

    return LINK.sub(lead, text)
