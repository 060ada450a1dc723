"""Keys of clients, with what each may do and has spent, and the log of requests."""

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import msgspec
from pydantic import BaseModel, ConfigDict, Field

from alphamix.ensemble.errors import EnsembleError
from alphamix.ensemble.serve.protocol.api_errors import ApiError, invalid, rate_limit
from alphamix.ensemble.serve.protocol.request_record import RequestRecord
from alphamix.environment import VariableName, read_secret
from alphamix.policies.policy_file.toml_errors import validated


class _KeyTable(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    env: VariableName
    models: list[str] | None = None
    tokens: Annotated[int, Field(ge=1)] | None = None
    requests_per_minute: Annotated[int, Field(ge=1)] | None = None


@dataclass(frozen=True, slots=True)
class ClientKey:
    """A key that clients send, and what it allows."""

    name: str
    secret: str = field(repr=False)
    models: frozenset[str] | None = None
    """Models that it may ask; None for all."""
    tokens: int | None = None
    """Number of tokens that it may spend, read and written; None for any."""
    requests_per_minute: int | None = None


def read_keys(
    tables: Mapping[str, Any], source: Path, models: Iterable[str], others: Collection[str]
) -> tuple[ClientKey, ...]:
    """Read the tables `[keys.NAME]` of a policies file; the secrets are in environment variables.

    Args:
        tables: by the name of the key.
        source: the file.
        models: what is served.
        others: what is not served now, but may be allowed: policies that were left out, say.

    Raises:
        EnsembleError: a table is wrong, names an unknown model, or its variable is unset; without its key the server
            might be open to everyone.
    """
    served, keys = frozenset(models), list[ClientKey]()
    for name, content in tables.items():
        place = f"[keys.{name}] of {source}"
        table = validated(_KeyTable, content, place, EnsembleError)
        if unknown := sorted(set(table.models or ()) - served.union(others)):
            names = ", ".join(sorted(served))
            raise EnsembleError(f"{place} allows {unknown[0]!r}, which is not served: name some of {names}")
        allowed = None if table.models is None else served.intersection(table.models)
        secret = read_secret(table.env, f"{place} needs an API key", EnsembleError)
        keys.append(ClientKey(name, secret, allowed, table.tokens, table.requests_per_minute))
    return tuple(keys)


class KeyAccount:
    """What one key has spent. Requests a minute fill a bucket that empties evenly; they may be sent all at once."""

    def __init__(self, key: ClientKey, now: Callable[[], float] = time.monotonic, tokens: int = 0) -> None:
        self.key = key
        self.tokens = tokens
        """Number of tokens that have been spent."""
        self.requests = 0
        self._now = now
        self._in_bucket = 0.0
        self._emptied_at = now()

    def admit(self, model: str) -> None:
        """Count a request.

        Raises:
            ApiError: 403, the key does not allow the model; 429, its budget or its rate is exceeded.
        """
        key = self.key
        if key.models is not None and model not in key.models:
            others = ", ".join(sorted(key.models)) or "for another key, since nothing that this one allows is served"
            message = f"the key {key.name!r} does not allow {model!r}: ask {others}"
            raise invalid(message, status=403, param="model", code="model_not_allowed")
        if key.tokens is not None and self.tokens >= key.tokens:
            message = f"the key {key.name!r} has spent its {key.tokens:,} tokens: ask for a larger budget"
            raise ApiError(429, message, kind="insufficient_quota", code="insufficient_quota")
        if key.requests_per_minute is not None:
            self._take_turn(key.requests_per_minute)
        self.requests += 1

    def _take_turn(self, per_minute: int) -> None:
        now = self._now()
        self._in_bucket = max(0.0, self._in_bucket - (now - self._emptied_at) * per_minute / 60)
        self._emptied_at = now
        if (excess := self._in_bucket + 1 - per_minute) > 0:
            message = f"the key {self.key.name!r} allows {per_minute} requests a minute: try again later"
            raise rate_limit(message, excess * 60 / per_minute)
        self._in_bucket += 1


class AccountBook:
    """The accounts of all keys that there have been: what a key has spent outlives every change of the file."""

    def __init__(self, spent: Mapping[str, int]) -> None:
        """Begin with the number of tokens that each key, by name, has spent."""
        self._spent = spent
        self._accounts: dict[str, KeyAccount] = {}

    def open(self, key: ClientKey) -> KeyAccount:
        """Return the account of a key, which allows from now on what this key does."""
        account = self._accounts.get(key.name)
        if account is None:
            account = self._accounts[key.name] = KeyAccount(key, tokens=self._spent.get(key.name, 0))
        account.key = key
        return account


class RequestLog:
    """One line of JSON for each request, appended to a file. Each line is written at once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = _append(path)

    def write(self, record: RequestRecord) -> None:
        """Add a line."""
        self._file.write(msgspec.json.encode(record.as_json()) + b"\n")

    def reopen(self) -> None:
        """Go on in a new file if the log has been moved away."""
        self._file.close()
        self._file = _append(self._path)

    def close(self) -> None:
        """Close the file. Safe to call twice."""
        self._file.close()


def _append(path: Path) -> Any:
    try:
        return path.open("ab", buffering=0)
    except OSError as error:
        raise EnsembleError(f"the request log {path} cannot be written ({error}): name a file that can be.") from error


def tokens_by_key(records: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Return the number of tokens that each key has spent according to a log."""
    spent: dict[str, int] = {}
    for record in records:
        shares = record["policies"].values()
        tokens = sum(share["tokens"] for share in shares)
        spent[record["key"] or ""] = spent.get(record["key"] or "", 0) + tokens
    return spent
