"""Who may call the server: keys, host names, pages of other hosts, and how large a request may be.

A browser lets any page send simple requests to a server on this machine, and a name of the page's own host may be made to point
here. So the host name and the origin are looked at whether there is a key or not.
"""

from __future__ import annotations

import hmac
import ipaddress

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sao_onnx.serve.answers import json_error
from sao_onnx.serve.settings import Settings

WITHOUT_KEY = frozenset({"/", "/page.js", "/page.css", "/icon.svg", "/healthz", "/readyz", "/health"})
"""What tells nothing and does nothing. The page asks for the key."""

SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
}

CORS_ALLOWED = {
    "Access-Control-Allow-Methods": "GET, POST, DELETE",
    "Access-Control-Allow-Headers": "Authorization, Content-Type, xi-api-key, x-api-key, Range",
    "Access-Control-Expose-Headers": "X-Sao-Seed, X-Sao-Model, X-Sao-Recipe, Retry-After, Content-Range, Location",
    "Access-Control-Max-Age": "600",
}


class TooLargeError(Exception):
    """A body is larger than the server takes.

    Attributes:
        most: Bytes that it takes.
    """

    def __init__(self, most: int) -> None:
        super().__init__(most)
        self.most = most


class Guard:
    """Refuses requests before anything is read.

    Args:
        app: What answers the others.
        settings: Of the server.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or hand it on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        origin = headers.get("origin", "")
        allowed = origin in self._settings.origins

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                answer = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    answer.setdefault(name, value)
                if allowed:
                    answer["Access-Control-Allow-Origin"] = origin
                    answer["Cross-Origin-Resource-Policy"] = "cross-origin"
                    answer["Access-Control-Expose-Headers"] = CORS_ALLOWED["Access-Control-Expose-Headers"]
                    answer.add_vary_header("Origin")
            await send(message)

        refused = self._refusal(scope, headers, origin, allowed=allowed)
        if refused is not None:
            await refused(scope, receive, send_guarded)
            return
        await self._app(scope, _bounded(receive, self._most(headers)), send_guarded)

    def _refusal(self, scope: Scope, headers: Headers, origin: str, *, allowed: bool) -> Response | None:
        settings = self._settings
        host = headers.get("host", "")
        name = _name(host)
        if settings.hosts and name not in settings.hosts and not (settings.addresses and _is_address(name)):
            return json_error(421, "HostError", "this server is not called by that name; start it with --allow-host NAME")
        if origin and not allowed and not _same(origin, host):
            return json_error(403, "OriginError", f"pages of {origin[:200]} may not call this server; see --allow-origin")
        if scope["method"] == "OPTIONS" and allowed:
            return Response(status_code=204, headers=CORS_ALLOWED)
        if settings.key and scope["path"] not in WITHOUT_KEY and not _holds(headers, settings.key):
            wanted = {"WWW-Authenticate": "Bearer"}
            return json_error(401, "KeyError", "the key is missing or wrong; send it as Authorization: Bearer KEY", wanted)
        length, most = headers.get("content-length", "0"), self._most(headers)
        return too_large(most) if not length.isdigit() or int(length[:19]) > most else None

    def _most(self, headers: Headers) -> int:
        """Bytes of a body: audio comes in forms, and all else is small."""
        limits = self._settings.limits
        form = headers.get("content-type", "").lower().startswith("multipart/")
        return limits.body if form else min(limits.body, limits.json)


def _bounded(receive: Receive, most: int) -> Receive:
    """The same body, but an error where it is larger than it may be; it need not say its length."""
    size = 0

    async def receive_bounded() -> Message:
        nonlocal size
        message = await receive()
        size += len(message.get("body", b""))
        if size > most:
            raise TooLargeError(most)
        return message

    return receive_bounded


def too_large(most: int) -> Response:
    """The answer to a body that is too large."""
    return json_error(413, "TooLargeError", f"the body is larger than {most} bytes")


def _holds(headers: Headers, key: str) -> bool:
    """Whether a request carries the key, in one of the places where clients put it."""
    scheme, _, bearer = headers.get("authorization", "").partition(" ")
    given = bearer.strip() if scheme.lower() == "bearer" else headers.get("xi-api-key") or headers.get("x-api-key") or ""
    return hmac.compare_digest(given.encode(), key.encode())


def _name(host: str) -> str:
    """The name in a Host header, without its port."""
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0].lower().rstrip(".")


def _is_address(name: str) -> bool:
    """Whether a host is named by its address, which no name service can make another one's."""
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True


def _same(origin: str, host: str) -> bool:
    return origin.lower() in (f"http://{host.lower()}", f"https://{host.lower()}")
