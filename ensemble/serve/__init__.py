"""The ensemble behind an OpenAI-compatible endpoint; start with `server.serve`.

`ask` (what a client wants) → `route` (who answers which choice) → `dispatch` (whole ensembles, failover) → `served`
(one policy: form, limits, `breaker`) → `relay` (a URL) or `embedded` (an engine: `bodies`, `upstream`, `answers`).
Best-of: `best_of_ask` (what is wanted) → `best_of` → `search` (waves, `judging`) → `selection` (who wins). `alphas`
opens policies at an α that is not listed; `turns` says whose turn it is on a server that is switched.
`wire` marks and merges answers as bytes, `app` joins all, `http` carries it, `errors` says what went wrong, `sources`
reads what is to be served.
"""
