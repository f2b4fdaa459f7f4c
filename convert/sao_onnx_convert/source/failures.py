"""What went wrong between here and the hub, as one line: what was found, the hub's own sentence, and what to do."""

from __future__ import annotations

import contextlib
import errno
import shutil

from sao_onnx_convert.errors import CheckpointError, CheckpointNotFoundError, DiskSpaceError, DownloadError
from sao_onnx_convert.source.answers import explain_answer
from sao_onnx_convert.source.attempt import Attempt, megabytes
from sao_onnx_convert.source.error_chain import CONSISTENCY, chain, from_xet, http_status, lost_connection, sentence

_BROKEN = ("IncompleteRead", "ProtocolError", "RemoteProtocolError", "ReadError", "ReadTimeout", "ReadTimeoutError")
"""Errors of a connection that had been made."""


def explain(error: Exception, attempt: Attempt) -> CheckpointError | DiskSpaceError:
    """The error to raise instead of one from huggingface_hub or from a library below it."""
    if (status := http_status(error)) is not None:
        return explain_answer(status, error, attempt)
    if (found := _not_asked(error, attempt)) is not None:
        return found
    if lost_connection(error) and not from_xet(error):
        return _unreachable(error, attempt)
    if _not_a_hub(error, attempt):
        return DownloadError(
            f"{attempt.endpoint} does not answer as a hub does ({sentence(error)}); check HF_ENDPOINT, and whether a proxy or "
            "a login page stands in between"
        )
    return _of_the_disk(error, attempt) or _failed_download(error, attempt)


def _not_asked(error: Exception, attempt: Attempt) -> CheckpointNotFoundError | None:
    """The error where the hub was not asked, because the name is impossible or the user wants to stay offline."""
    from huggingface_hub.errors import HFValidationError

    if isinstance(error, HFValidationError):
        return CheckpointNotFoundError(
            f"{attempt.repository} is neither a folder nor a possible name of a repository: {sentence(error)}"
        )
    if _offline_by_choice(error):
        return CheckpointNotFoundError(
            f"{attempt.what} is not in the download cache {attempt.cache}, and HF_HUB_OFFLINE is set; unset it and try again"
        )
    return None


def _failed_download(error: Exception, attempt: Attempt) -> DownloadError:
    """The error where nothing more is known."""
    if CONSISTENCY in str(error):
        return DownloadError(f"{attempt.what} did not arrive whole: {sentence(error)}; run the same command again")
    remedy = "run the same command again"
    if from_xet(error):
        remedy += ", or with HF_HUB_DISABLE_XET=1, which takes another way to the same file"
    return DownloadError(f"{attempt.what} could not be downloaded from {attempt.page}: {sentence(error)}; {remedy}")


def _unreachable(error: Exception, attempt: Attempt) -> DownloadError:
    said = sentence(error)
    if attempt.arrived:
        size = "" if attempt.size is None else f" of {megabytes(attempt.size)}"
        return DownloadError(
            f"the download of {attempt.what} broke off after {megabytes(attempt.arrived)}{size} ({said}); "
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
            free = f", {megabytes(shutil.disk_usage(attempt.cache).free)} are free"
        needed = "" if attempt.size is None else f" of {megabytes(attempt.size)}"
        return DiskSpaceError(
            f"there is no room for {attempt.what}{needed} in {attempt.cache} ({sentence(error)}{free}); make "
            f"room{attempt.kept}, {remedy}"
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
