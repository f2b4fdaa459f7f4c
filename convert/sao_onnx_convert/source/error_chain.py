"""What happened, read from an error and from the errors that caused it.

huggingface_hub, the HTTP clients under it (requests, later httpx) and hf_xet share no base class of errors, and they wrap each
other's. So the whole chain of an error has to be looked at to find an answer of the hub, a connection, the disk, or none of
them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_HTTP_CLIENTS = ("requests", "urllib3", "httpx", "httpcore", "httpx2", "httpcore2")

CONSISTENCY = "Consistency check failed"
"""What huggingface_hub says of a file that is longer or shorter than it should be."""

_LONGEST = 300


def http_status(error: BaseException) -> int | None:
    """The status that the hub answered with, None where there was no answer."""
    return next((status for link in chain(error) if (status := answer_status(link)) is not None), None)


def answer_status(link: BaseException) -> int | None:
    """The status of the answer that one error is about, if it is one of refusal (400 or more)."""
    status = getattr(response(link), "status_code", None)
    return status if isinstance(status, int) and status >= 400 else None


def response(link: BaseException) -> Any:
    """What the hub answered, as the HTTP client has it; None where an error is not about an answer."""
    return getattr(link, "response", None)


def lost_connection(error: BaseException) -> bool:
    """Whether there was no connection, or it broke off."""
    if http_status(error) is not None:
        return False
    return any(
        isinstance(link, (ConnectionError, TimeoutError))
        or (type(link).__module__.partition(".")[0] in _HTTP_CLIENTS and not isinstance(link, ValueError))
        for link in chain(error)
    )


def from_xet(error: BaseException) -> bool:
    """Whether hf_xet failed, which downloads most large files. It raises built-in errors, most often RuntimeError."""
    bare = type(error) in (RuntimeError, ConnectionError, TimeoutError, PermissionError, OSError)
    return bare and getattr(error, "errno", None) is None and CONSISTENCY not in str(error)


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
    answered = [link for link in links if answer_status(link) is not None]
    systems = [link for link in links if isinstance(link, OSError) and link.strerror]
    if answered:
        text = getattr(answered[0], "server_message", None) or response(answered[0]).headers.get("X-Error-Message")
        text = text or str(answered[0])
    elif systems and not from_xet(error):
        text = str(systems[-1].strerror)
    else:
        text = str(links[-1] if lost_connection(error) and not from_xet(error) else error)
    # What follows the first line is advice to programmers.
    text = " ".join((text.strip() or type(error).__name__).split("\n")[0].split()).rstrip(".")
    return text if len(text) <= _LONGEST else text[:_LONGEST].rstrip() + "…"
