"""Who may use the server: keys, and without keys, the web pages and host names that browsers may come from.

A server without keys on one's own machine can be reached by every web page that is open there. So it answers only to
addresses and names that are its own, and only to pages that come from there or that `--cors-origin` names.
"""

import base64
import hmac
import re
from collections.abc import Sequence
from ipaddress import ip_address

from starlette.types import ASGIApp, Receive, Scope, Send

from alphamix.ensemble.serve.accounts import KeyAccount
from alphamix.ensemble.serve.http_io import send_body
from alphamix.ensemble.serve.protocol.api_errors import ApiError, invalid
from alphamix.ensemble.serve.protocol.responses import encode

_OPEN_PATHS = frozenset({"/health", "/ready"})
ACCOUNT = "alphamix.account"
"""Key of the scope of a request with the `KeyAccount` of its client."""


class AccessMiddleware:
    """Passes a request on if it has a valid key, or comes from where one without a key may."""

    def __init__(
        self, app: ASGIApp, accounts: Sequence[KeyAccount], hosts: Sequence[str] = (), origins: Sequence[str] = ()
    ) -> None:
        self.accounts = accounts
        self._app = app
        self._hosts = frozenset({"localhost", *(host.lower() for host in hosts)})
        self._origins = frozenset(origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] == "http" and scope["path"] not in _OPEN_PATHS:
            try:
                scope[ACCOUNT] = self._admitted(dict(scope["headers"]), is_page=scope["path"] == "/")
            except ApiError as error:
                scheme = 'Basic realm="alphamix"' if scope["path"] == "/" else "Bearer"
                headers = {"www-authenticate": scheme} if error.status == 401 else {}
                await send_body(send, error.status, encode(error.as_json()), headers)
                return
        await self._app(scope, receive, send)

    def _admitted(self, headers: dict[bytes, bytes], *, is_page: bool) -> KeyAccount | None:
        """Return the account of the client's key, or None if the server has no keys.

        Raises:
            ApiError: 401, there is no valid key; 403 or 421, the request may be that of a web page from elsewhere.
        """
        if not self.accounts:
            host = headers.get(b"host", b"").decode("latin-1")
            self._check_host(host)
            if b"origin" in headers:
                self._check_origin(headers[b"origin"].decode("latin-1"), host)
            return None
        kind, _, key = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
        given = key.strip().encode("latin-1") if kind.lower() == "bearer" else b""
        if is_page and kind.lower() == "basic":
            given = _password(key)
        found = None
        # Every key is compared, in constant time, so that timing reveals nothing about a key.
        for account in self.accounts:
            if hmac.compare_digest(given, account.key.secret.encode()):
                found = account
        if found is None:
            message = "the API key is missing or wrong: send 'Authorization: Bearer …' with a key of this server"
            raise ApiError(401, message, kind="authentication_error", code="invalid_api_key")
        return found

    def _check_host(self, host: str) -> None:
        """Refuse other names than our own: a page can let its own name point here (DNS rebinding)."""
        name = re.sub(r":[0-9]+$", "", host).lower()
        if host and name not in self._hosts and not _is_address(name.strip("[]")):
            message = f"this server is not {name[:100]!r}: start it with --allow-host NAME, or with keys"
            raise invalid(message, status=421, code="unknown_host")

    def _check_origin(self, origin: str, host: str) -> None:
        if origin in self._origins or "*" in self._origins or origin.partition("://")[2] == host:
            return
        message = f"the web page {origin[:100]!r} may not use this server: start it with --cors-origin, or with keys"
        raise invalid(message, status=403, code="unknown_origin")


def _password(credentials: str) -> bytes:
    """Return the password that a browser has asked a person for."""
    try:
        return base64.b64decode(credentials, validate=True).partition(b":")[2]
    except ValueError:
        return b""


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
