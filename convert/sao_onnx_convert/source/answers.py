"""What the hub refused, as one line: what was found, the hub's own sentence, and what to do."""

from __future__ import annotations

import os

from sao_onnx_convert.errors import CheckpointError, CheckpointNotFoundError, DownloadError
from sao_onnx_convert.source.attempt import Attempt
from sao_onnx_convert.source.error_chain import answer_status, chain, response, sentence


def explain_answer(status: int, error: Exception, attempt: Attempt) -> CheckpointError:
    """The error where the hub answered with a status of 400 or more."""
    said, page, token = sentence(error), attempt.page, _token()
    if (found := _refused_repository(status, error, attempt)) is not None:
        return found
    if status in (401, 403, 404):
        return CheckpointNotFoundError(_not_allowed(status, said, attempt, token))
    if status == 429:
        wait = _retry_after(error)
        remedy = "wait some minutes" if wait is None else f"wait {wait} seconds"
        remedy += " and try again" if token else " and try again, or run `hf auth login`: who is logged in may ask more often"
        return DownloadError(f"the hub was asked too often for {attempt.what} ({status}: {said}); {remedy}")
    if status >= 500:
        return DownloadError(f"the hub at {attempt.endpoint} fails ({status}: {said}); try again later{attempt.kept}")
    return DownloadError(f"the hub refuses {attempt.what} ({status}: {said}); see {page}")


def _not_allowed(status: int, said: str, attempt: Attempt, token: str | None) -> str:
    """The message where the repository is not there, or may not be read."""
    if status == 401 and token and _of_the_token(said):
        return (
            f"the hub does not accept {token} ({status}: {said}); make a new one at {attempt.endpoint}/settings/tokens and run "
            "`hf auth login`, or log out with `hf auth logout` if the repository is public"
        )
    if status == 403:
        return (
            f"the hub refuses {attempt.what} ({status}: {said}); check the rights of your token at "
            f"{attempt.endpoint}/settings/tokens, and whether {attempt.page} opens in a browser"
        )
    remedy = "check the name, and run `hf auth login` if the repository is private"
    if token:
        remedy = f"check the name, and whether the account of {token} may read it"
    return f"{attempt.repository} was not found at {attempt.page} ({status}: {said}); {remedy}"


def _refused_repository(status: int, error: Exception, attempt: Attempt) -> CheckpointNotFoundError | None:
    """The error where the class of an answer tells what is wrong with the repository or with what is asked of it."""
    from huggingface_hub.errors import DisabledRepoError, EntryNotFoundError, GatedRepoError, RevisionNotFoundError

    said, page, token = sentence(error), attempt.page, _token()
    # Errors around the answer may have one of these classes, too, and mean something else: a file that is not in the cache.
    answers = [link for link in chain(error) if answer_status(link) is not None]

    def is_a(kind: type[Exception]) -> bool:
        return any(isinstance(link, kind) for link in answers)

    text = None
    if is_a(GatedRepoError):
        remedy = f"accept its licence at {page}, then run `hf auth login` and try again"
        if token:
            remedy = (
                f"accept its licence at {page} with the account of {token}, and give the token the right to read gated "
                f"repositories at {attempt.endpoint}/settings/tokens"
            )
        text = f"{attempt.repository} is gated ({status}: {said}); {remedy}"
    elif is_a(RevisionNotFoundError):
        text = (
            f"{attempt.repository} has no revision {attempt.revision or 'main'!r} ({status}: {said}); see {page} for its "
            "branches, tags and commits"
        )
    elif is_a(EntryNotFoundError):
        text = f"{attempt.what} is not there ({status}: {said}); see {page}/tree/main"
    elif is_a(DisabledRepoError):
        text = f"{attempt.repository} was disabled by the hub ({status}: {said}); see {page}"
    return None if text is None else CheckpointNotFoundError(text)


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
        if answer_status(link) is not None:
            seconds = str(response(link).headers.get("Retry-After", ""))
            return int(seconds) if seconds.isdigit() else None
    return None
