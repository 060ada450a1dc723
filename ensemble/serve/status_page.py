"""The page at `/` for people: what is served, by which shares, whether it is in service, and what has been spent."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from html import escape

from alphamix.ensemble.serve.accounts import KeyAccount
from alphamix.ensemble.serve.backends.policy_endpoint import PolicyEndpoint
from alphamix.ensemble.serve.metrics import Metrics

_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:60rem;padding:0 1rem;color-scheme:light dark}"
    "table{border-collapse:collapse;width:100%;margin-bottom:2rem}caption{text-align:left;font-weight:bold}"
    "th,td{text-align:right;padding:.2rem .6rem;border-bottom:1px solid #8886}"
    "th:first-child,td:first-child{text-align:left}"
)


def status_page(
    weights: Mapping[str, Mapping[str, float]],
    policies: Mapping[str, PolicyEndpoint],
    accounts: Sequence[KeyAccount],
    metrics: Metrics,
) -> str:
    """Return the page as HTML."""
    ensembles = [(name, shares) for name, shares in weights.items() if shares != {name: 1.0}]
    tables = [_policy_table(policies, metrics)]
    if ensembles:
        tables.append(_table("Ensembles", ["name", "shares"], [(name, _shares(shares)) for name, shares in ensembles]))
    if accounts:
        tables.append(_key_table(accounts))
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta http-equiv="refresh" content="10">'
        f"<title>alphamix</title><style>{_STYLE}</style><h1>alphamix</h1>{''.join(tables)}"
        "<p>For programs: <code>/v1/models</code>, <code>/metrics</code>, <code>/ready</code>.</p></html>"
    )


def _policy_table(policies: Mapping[str, PolicyEndpoint], metrics: Metrics) -> str:
    calls, failures, tokens = Counter[str](), Counter[str](), Counter[tuple[str, str]]()
    for (policy, outcome), count in metrics.calls.items():
        calls[policy] += count
        failures[policy] += count if outcome not in ("ok", "left", "rejected") else 0
    for (_, policy, kind), count in metrics.tokens.items():
        tokens[policy, kind] += count
    rows = [
        (
            name,
            "" if policy.policy.alpha is None else f"{policy.policy.alpha:g}",
            policy.health,
            policy.in_flight,
            calls[name],
            failures[name],
            tokens[name, "prompt"],
            tokens[name, "completion"],
        )
        for name, policy in policies.items()
    ]
    heads = ["name", "α", "health", "in flight", "calls", "failed", "tokens read", "tokens written"]
    return _table("Policies", heads, rows)


def _key_table(accounts: Sequence[KeyAccount]) -> str:
    rows = [
        (
            account.key.name,
            "all" if account.key.models is None else ", ".join(sorted(account.key.models)),
            account.requests,
            account.tokens,
            "any" if account.key.tokens is None else account.key.tokens,
            "any" if account.key.requests_per_minute is None else account.key.requests_per_minute,
        )
        for account in accounts
    ]
    return _table("Keys", ["name", "models", "requests", "tokens spent", "of", "requests a minute"], rows)


def _shares(weights: Mapping[str, float]) -> str:
    total = sum(weights.values())
    return ", ".join(f"{name} {weight / total:.0%}" for name, weight in weights.items())


def _table(caption: str, heads: Iterable[str], rows: Iterable[Sequence[object]]) -> str:
    head = "".join(f"<th>{escape(text)}</th>" for text in heads)
    body = "".join(f"<tr>{''.join(f'<td>{_cell(value)}</td>' for value in row)}</tr>" for row in rows)
    return f"<table><caption>{caption}</caption><tr>{head}</tr>{body}</table>"


def _cell(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else escape(str(value))
