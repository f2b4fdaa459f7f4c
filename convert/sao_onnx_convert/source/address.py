"""Reads the name of a repository on the hub, as a person writes or pastes it. Nothing is looked up."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

HUB_HOSTS = ("huggingface.co", "www.huggingface.co", "hf.co")
EXPECTED = "a folder, a repository such as 'owner/name' or 'owner/name@revision', or the address of one"

_REPOSITORY = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")
_NOT_MODELS = ("datasets", "spaces", "collections", "papers", "docs", "models", "settings")
# Revisions with a slash in their name that the hub makes itself; other slashes are escaped in addresses.
_REFERENCE = re.compile(r"(refs/(?:pr/\d+|convert/[^/]+))(?:/(.*))?")


@dataclass(frozen=True)
class Address:
    """A repository of a model.

    Attributes:
        repository: `owner/name`, or `name` for the few that have no owner.
        revision: Branch, tag or commit; None for the main branch.
        folder: Folder in the repository, ending in `/`; "" for the whole repository.
        file: Path of the file in the repository, where the address is that of a file.
    """

    repository: str
    revision: str | None = None
    folder: str = ""
    file: str | None = None


def parse_address(text: str, endpoint: str) -> Address:
    """Read the name of a repository.

    Args:
        text: `owner/name`, `owner/name@revision`, or the address of a page of it, with or without `https://`: the repository's
            own, or one with `/tree/REVISION/FOLDER`, `/blob/REVISION/FILE` or `/resolve/REVISION/FILE`.
        endpoint: Address of the hub in use. Its host counts as the hub's, like the public ones.

    Raises:
        ValueError: It names no repository. The message says why, and does not repeat the text.
    """
    text = text.strip()
    path = _path_on_hub(text, endpoint)
    if path is None:
        return _short(text)
    if text.startswith("hf://"):
        return _short(path.removeprefix("models/"))
    parts = [part for part in path.split("/") if part]
    if parts[:2] == ["api", "models"]:
        parts = parts[2:]
    if not parts:
        raise ValueError("is the hub's own address, not a model's")
    if parts[0] in _NOT_MODELS:
        raise ValueError(f"is an address under /{parts[0]}, not a model's")
    verbs = [i for i, part in enumerate(parts[:3]) if i and part in ("tree", "blob", "resolve", "raw", "commit", "commits")]
    end = verbs[0] if verbs else min(2, len(parts))
    repository = "/".join(parts[:end]).removesuffix(".git")
    if not _REPOSITORY.fullmatch(repository):
        raise ValueError(f"is not the address of a model ({repository!r} cannot be the name of a repository)")
    if not verbs or len(parts) == end + 1:
        return Address(repository)
    revision, below = _split_revision(parts[end + 1 :])
    if parts[end] in ("blob", "resolve", "raw") and below:
        folder, slash, _ = below.rpartition("/")
        return Address(repository, revision, folder + slash, below)
    return Address(repository, revision, f"{below}/" if below and parts[end] == "tree" else "")


def _short(text: str) -> Address:
    name, at, revision = text.partition("@")
    if not _REPOSITORY.fullmatch(name):
        raise ValueError(f"is neither a folder nor a repository; expected {EXPECTED}")
    if at and not revision:
        raise ValueError("ends in '@', but names no revision after it")
    return Address(name, unquote(revision) or None)


def _path_on_hub(text: str, endpoint: str) -> str | None:
    """The path of an address on the hub, without query and fragment; None where the text is not an address."""
    scheme, separator, rest = text.partition("://")
    if not separator:
        host, _, _ = text.partition("/")
        if host.lower() not in HUB_HOSTS:
            return None
        scheme, rest = "https", text
    if scheme == "hf":
        return rest.strip("/")
    if scheme not in ("http", "https"):
        raise ValueError(f"is an address of {scheme}://, not of the hub; expected {EXPECTED}")
    found, own = urlsplit(f"{scheme}://{rest}"), urlsplit(endpoint)
    path = found.path
    if found.netloc.lower() == own.netloc.lower():
        path = path.removeprefix(own.path.rstrip("/"))
    elif found.netloc.lower() not in HUB_HOSTS:
        raise ValueError(f"is an address of {found.netloc or 'no host'}, not of the hub at {endpoint}; expected {EXPECTED}")
    return path


def _split_revision(parts: list[str]) -> tuple[str, str]:
    """Revision and path below it, unescaped."""
    whole = "/".join(parts)
    if reference := _REFERENCE.fullmatch(whole):
        return reference[1], unquote(reference[2] or "")
    return unquote(parts[0]), unquote("/".join(parts[1:]))
