"""The URL of an API: what it says of who asks, and how errors show it."""

import base64
from urllib.parse import unquote, urlsplit, urlunsplit


def authorization(url: str, api_key: str | None) -> str | None:
    """Return the header `Authorization` for a URL: that of the key, or else that of the user whom the URL names."""
    if api_key is not None:
        return f"Bearer {api_key}"
    address = urlsplit(url)
    if address.username is None:
        return None
    user = f"{unquote(address.username)}:{unquote(address.password or '')}"
    return f"Basic {base64.b64encode(user.encode()).decode()}"


def without_user(url: str) -> str:
    """Return a URL without its user."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def shown(url: str) -> str:
    """Return a URL as errors and logs show it: without the user and the query, which may be secret."""
    return urlunsplit(urlsplit(without_user(url))._replace(query="", fragment=""))
