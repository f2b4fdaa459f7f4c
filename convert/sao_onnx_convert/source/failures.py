"""What went wrong between here and the hub, as one line: what was found, the hub's own sentence, and the remedy.

huggingface_hub, the HTTP clients under it (requests, later httpx) and hf_xet share no base class of errors, and wrap each
other; what happened is therefore read from the whole chain of an error: an answer of the hub, a connection, the disk, or none.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sao_onnx_convert.errors import CheckpointError, CheckpointNotFoundError, DiskSpaceError, DownloadError

_HTTP_CLIENTS = ("requests", "urllib3", "httpx", "httpcore", "httpx2", "httpcore2")
_BROKEN = ("IncompleteRead", "ProtocolError", "RemoteProtocolError", "ReadError", "ReadTimeout", "ReadTimeoutError")
"""Errors of a connection that had been made."""

_CONSISTENCY = "Consistency check failed"
"""How huggingface_hub calls a file that is longer or shorter than it should be."""

_LONGEST = 300


@dataclass(frozen=True)
class Attempt:
    """What was being done when it failed.

    Attributes:
        repository: `owner/name`.
        revision: The one that was asked for, None for the main branch.
        endpoint: Address of the hub.
        cache: Folder of downloads.
        file: The file that was to be brought, None for the list of files.
        arrived: Bytes of it that are kept for the next try.
        size: Its size where that is known.
    """

    repository: str
    revision: str | None
    endpoint: str
    cache: Path
    file: str | None = None
    arrived: int = 0
    size: int | None = None

    @property
    def page(self) -> str:
        """Address of the repository, for a person."""
        return f"{self.endpoint}/{self.repository}"

    @property
    def what(self) -> str:
        """The file or the repository."""
        return f"{self.file} of {self.repository}" if self.file else self.repository


def explain(error: Exception, attempt: Attempt) -> CheckpointError | DiskSpaceError:
    """The error to raise instead of one from huggingface_hub or from below it."""
    from huggingface_hub.errors import HFValidationError

    if isinstance(error, HFValidationError):
        return CheckpointNotFoundError(
            f"{attempt.repository} is neither a folder nor a possible name of a repository: {sentence(error)}"
        )
    if (status := http_status(error)) is not None:
        return _answered(status, error, attempt)
    if _offline_by_choice(error):
        return CheckpointNotFoundError(
            f"{attempt.what} is not in the download cache {attempt.cache}, and HF_HUB_OFFLINE is set; unset it and try again"
        )
    if lost_connection(error) and not from_xet(error):
        return _unreachable(error, attempt)
    if _not_a_hub(error, attempt):
        return DownloadError(
            f"{attempt.endpoint} does not answer as a hub does ({sentence(error)}); check HF_ENDPOINT, and whether a proxy or "
            "a login page stands in between"
        )
    if disk := _of_the_disk(error, attempt):
        return disk
    if _CONSISTENCY in str(error):
        return DownloadError(f"{attempt.what} did not arrive whole: {sentence(error)}; run the same command again")
    remedy = "run the same command again"
    if from_xet(error):
        remedy += ", or with HF_HUB_DISABLE_XET=1, which takes another way to the same file"
    return DownloadError(f"{attempt.what} could not be downloaded from {attempt.page}: {sentence(error)}; {remedy}")


def http_status(error: BaseException) -> int | None:
    """The status that the hub answered with, None where there was no answer."""
    return next((status for link in chain(error) if (status := _status(link)) is not None), None)


def _status(link: BaseException) -> int | None:
    status = getattr(_response(link), "status_code", None)
    return status if isinstance(status, int) and status >= 400 else None


def _response(link: BaseException) -> Any:
    """What the hub answered, as the HTTP client has it; None where an error is not about an answer."""
    return getattr(link, "response", None)


def lost_connection(error: BaseException) -> bool:
    """Whether there was no connection, or it broke."""
    if http_status(error) is not None:
        return False
    return any(
        isinstance(link, (ConnectionError, TimeoutError))
        or (type(link).__module__.partition(".")[0] in _HTTP_CLIENTS and not isinstance(link, ValueError))
        for link in chain(error)
    )


def from_xet(error: BaseException) -> bool:
    """Whether hf_xet failed, which brings most large files: it raises bare built-in errors, RuntimeError above all."""
    bare = type(error) in (RuntimeError, ConnectionError, TimeoutError, PermissionError, OSError)
    return bare and getattr(error, "errno", None) is None and _CONSISTENCY not in str(error)


def of_the_system(error: BaseException) -> bool:
    """Whether the operating system refused something, such as room on the disk."""
    return any(isinstance(link, OSError) and link.errno is not None for link in chain(error))


def chain(error: BaseException) -> Iterator[BaseException]:
    """An error and what caused it, outermost first."""
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__ or link.__context__


def sentence(error: BaseException) -> str:
    """What the hub, or failing that the innermost error, says: one line of bounded length, without a full stop."""
    links = list(chain(error))
    answered = [link for link in links if _status(link) is not None]
    systems = [link for link in links if isinstance(link, OSError) and link.strerror]
    if answered:
        text = getattr(answered[0], "server_message", None) or _response(answered[0]).headers.get("X-Error-Message")
        text = text or str(answered[0])
    elif systems and not from_xet(error):
        text = str(systems[-1].strerror)
    else:
        text = str(links[-1] if lost_connection(error) and not from_xet(error) else error)
    # What follows the first line is advice to programmers.
    text = " ".join((text.strip() or type(error).__name__).split("\n")[0].split()).rstrip(".")
    return text if len(text) <= _LONGEST else text[:_LONGEST].rstrip() + "…"


def _answered(status: int, error: Exception, attempt: Attempt) -> CheckpointError:
    from huggingface_hub.errors import DisabledRepoError, EntryNotFoundError, GatedRepoError, RevisionNotFoundError

    said, page = sentence(error), attempt.page
    # Of what is wrapped around the answer, some classes mean something else: a file that is not in the cache, for one.
    answers = [link for link in chain(error) if _status(link) is not None]

    def is_a(kind: type[Exception]) -> bool:
        return any(isinstance(link, kind) for link in answers)

    token = _token()
    if is_a(GatedRepoError):
        remedy = f"accept its licence at {page}, then run `hf auth login` and try again"
        if token:
            remedy = (
                f"accept its licence at {page} with the account of {token}, and give the token the right to read gated "
                f"repositories at {attempt.endpoint}/settings/tokens"
            )
        return CheckpointNotFoundError(f"{attempt.repository} is gated ({status}: {said}); {remedy}")
    if is_a(RevisionNotFoundError):
        return CheckpointNotFoundError(
            f"{attempt.repository} has no revision {attempt.revision or 'main'!r} ({status}: {said}); see {page} for its "
            "branches, tags and commits"
        )
    if is_a(EntryNotFoundError):
        return CheckpointNotFoundError(f"{attempt.what} is not there ({status}: {said}); see {page}/tree/main")
    if is_a(DisabledRepoError):
        return CheckpointNotFoundError(f"{attempt.repository} was disabled by the hub ({status}: {said}); see {page}")
    if status == 401 and token and _of_the_token(said):
        return CheckpointNotFoundError(
            f"the hub does not accept {token} ({status}: {said}); make a new one at {attempt.endpoint}/settings/tokens and run "
            "`hf auth login`, or log out with `hf auth logout` if the repository is public"
        )
    if status in (401, 404):
        remedy = "check the name, and run `hf auth login` if the repository is private"
        if token:
            remedy = f"check the name, and whether the account of {token} may read it"
        return CheckpointNotFoundError(f"{attempt.repository} was not found at {page} ({status}: {said}); {remedy}")
    if status == 403:
        return CheckpointNotFoundError(
            f"the hub refuses {attempt.what} ({status}: {said}); check the rights of your token at "
            f"{attempt.endpoint}/settings/tokens, and whether {page} opens in a browser"
        )
    if status == 429:
        wait = _retry_after(error)
        remedy = "wait some minutes" if wait is None else f"wait {wait} seconds"
        remedy += " and try again" if token else " and try again, or run `hf auth login`: who is logged in may ask more often"
        return DownloadError(f"the hub was asked too often for {attempt.what} ({status}: {said}); {remedy}")
    if status >= 500:
        return DownloadError(f"the hub at {attempt.endpoint} fails ({status}: {said}); try again later{_kept(attempt)}")
    return DownloadError(f"the hub refuses {attempt.what} ({status}: {said}); see {page}")


def _unreachable(error: Exception, attempt: Attempt) -> DownloadError:
    said = sentence(error)
    if attempt.arrived:
        size = "" if attempt.size is None else f" of {_megabytes(attempt.size)}"
        return DownloadError(
            f"the download of {attempt.what} broke off after {_megabytes(attempt.arrived)}{size} ({said}); "
            "what has arrived is kept: run the same command again and it goes on from there"
        )
    if any(type(link).__name__ in _BROKEN for link in chain(error)):
        return DownloadError(
            f"the connection to the hub at {attempt.endpoint} broke off before {attempt.what} was here ({said}); run the same "
            "command again"
        )
    return DownloadError(
        f"{attempt.what} is not in the download cache {attempt.cache}, and the hub at {attempt.endpoint} cannot be reached "
        f"({said}); check the connection (and HF_ENDPOINT or HTTPS_PROXY where they are set) and try again"
    )


def _of_the_disk(error: Exception, attempt: Attempt) -> DiskSpaceError | DownloadError | None:
    systems = [link for link in chain(error) if isinstance(link, OSError) and link.errno is not None]
    full = any(link.errno in (errno.ENOSPC, errno.EDQUOT) for link in systems) or "No space left on device" in str(error)
    remedy = "or name a folder on another disk with HF_HOME"
    if full:
        free = ""
        with contextlib.suppress(OSError):
            free = f", {_megabytes(shutil.disk_usage(attempt.cache).free)} are free"
        needed = "" if attempt.size is None else f" of {_megabytes(attempt.size)}"
        return DiskSpaceError(
            f"there is no room for {attempt.what}{needed} in {attempt.cache} ({sentence(error)}{free}); make "
            f"room{_kept(attempt)}, {remedy}"
        )
    if systems:
        where = systems[-1].filename or attempt.cache
        return DownloadError(f"{where} cannot be written ({sentence(error)}); mend that, {remedy}")
    return None


def _offline_by_choice(error: Exception) -> bool:
    from huggingface_hub.errors import OfflineModeIsEnabled

    return any(isinstance(link, OfflineModeIsEnabled) for link in chain(error))


def _not_a_hub(error: Exception, attempt: Attempt) -> bool:
    """Whether an answer came that makes no sense: a page instead of a list, a list of other things, a file of no commit."""
    from huggingface_hub.errors import FileMetadataError

    if any(isinstance(link, FileMetadataError) for link in chain(error)):
        return True
    # An address that is none is a ValueError too.
    return attempt.file is None and isinstance(error, (KeyError, TypeError, AttributeError, ValueError))


def _of_the_token(said: str) -> bool:
    return any(word in said.lower() for word in ("credential", "token", "password", "expired"))


def _token() -> str | None:
    """Which token the hub was shown, for a person; None without one."""
    from huggingface_hub import get_token

    if not get_token():
        return None
    for variable in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        if os.environ.get(variable):
            return f"the token in {variable}"
    return "your token"


def _retry_after(error: Exception) -> int | None:
    for link in chain(error):
        if _status(link) is not None:
            seconds = str(_response(link).headers.get("Retry-After", ""))
            return int(seconds) if seconds.isdigit() else None
    return None


def _kept(attempt: Attempt) -> str:
    if not attempt.arrived:
        return ""
    return f" (the {_megabytes(attempt.arrived)} that have arrived are kept)"


def _megabytes(size: int) -> str:
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
