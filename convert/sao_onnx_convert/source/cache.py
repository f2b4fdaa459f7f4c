"""huggingface_hub's download cache, read without asking the hub: which files are there, complete or in part."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

MAIN = "main"


def cache_folder() -> Path:
    """The folder that huggingface_hub downloads to."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def find(repository: str, name: str, revision: str) -> Path | None:
    """A file of a repository, None where it is not in the cache.

    Args:
        repository: `owner/name`.
        name: Path in the repository, with `/`.
        revision: Commit, or a branch or tag; the commit of these is that of the last download.
    """
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(repository, name, cache_dir=cache_folder(), revision=revision)
    # The result may also be a mark that the hub does not have the file.
    return Path(found) if isinstance(found, str) else None


def find_snapshot(repository: str, names: Sequence[str], revision: str) -> Path | None:
    """The folder of a revision's files, named after its commit; None where none of `names` is in it."""
    for name in names:
        if (path := find(repository, name, revision)) is not None:
            return base_folder(path, name)
    return None


def base_folder(path: Path, name: str) -> Path:
    """The folder in which a file has the given path, which may have several parts."""
    return path.parents[name.count("/")]


def is_complete(repository: str, blob: str) -> bool:
    """Whether the content of a file is there completely, from any revision of the repository."""
    return (_blobs(repository) / blob).is_file()


def partials(repository: str, blob: str | None) -> list[Path]:
    """Incomplete downloads: of one content, or all of the repository where the content is not known.

    huggingface_hub before 1.0 continues such a file. Later releases write every attempt to a new file, and remove it.
    """
    pattern = "*.incomplete" if blob is None else f"{blob}*.incomplete"
    return list(_blobs(repository).glob(pattern))


def arrived(repository: str, blob: str | None) -> int:
    """Bytes of an incomplete download on the disk. Holes in a sparse file are not counted."""
    sizes = [0]
    for path in partials(repository, blob):
        with contextlib.suppress(OSError):
            status = path.stat()
            sizes.append(min(status.st_size, getattr(status, "st_blocks", status.st_size) * 512))
    return max(sizes)


def discard_partials(repository: str, blob: str) -> None:
    """Remove the incomplete downloads of one content."""
    for path in partials(repository, blob):
        with contextlib.suppress(OSError):
            path.unlink()


def _blobs(repository: str) -> Path:
    from huggingface_hub.file_download import repo_folder_name

    return cache_folder() / repo_folder_name(repo_id=repository, repo_type="model") / "blobs"
