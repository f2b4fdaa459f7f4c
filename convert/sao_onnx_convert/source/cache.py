"""huggingface_hub's folder of downloads, read without asking the hub: what of a repository is here, whole or in part."""

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
        revision: Branch or tag as it was when last asked for, or a commit.
    """
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(repository, name, cache_dir=cache_folder(), revision=revision)
    # Other than a path, it may be a mark that the hub does not have the file.
    return Path(found) if isinstance(found, str) else None


def find_snapshot(repository: str, names: Sequence[str], revision: str) -> Path | None:
    """The folder of a revision's files, named after its commit; None where none of `names` is in it."""
    for name in names:
        if (path := find(repository, name, revision)) is not None:
            return above(path, name)
    return None


def above(path: Path, name: str) -> Path:
    """The folder in which a file is known under a name of one or more parts."""
    return path.parents[name.count("/")]


def whole(repository: str, blob: str) -> bool:
    """Whether the content is here, in whichever revision of the repository."""
    return (_blobs(repository) / blob).is_file()


def partials(repository: str, blob: str | None) -> list[Path]:
    """Files that a download is or was being written to: of one content, or where that is not known, all of the repository.

    Up to release 1 huggingface_hub goes on with such a file; later it gives each try a name of its own, and removes it.
    """
    pattern = "*.incomplete" if blob is None else f"{blob}*.incomplete"
    return list(_blobs(repository).glob(pattern))


def arrived(repository: str, blob: str | None) -> int:
    """Bytes on the disk of a content that is not complete. Holes do not count."""
    sizes = [0]
    for path in partials(repository, blob):
        with contextlib.suppress(OSError):
            status = path.stat()
            sizes.append(min(status.st_size, getattr(status, "st_blocks", status.st_size) * 512))
    return max(sizes)


def discard_partials(repository: str, blob: str) -> None:
    """Remove what a download left behind."""
    for path in partials(repository, blob):
        with contextlib.suppress(OSError):
            path.unlink()


def _blobs(repository: str) -> Path:
    from huggingface_hub.file_download import repo_folder_name

    return cache_folder() / repo_folder_name(repo_id=repository, repo_type="model") / "blobs"
