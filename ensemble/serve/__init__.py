"""The ensemble behind an OpenAI-compatible endpoint; start with `server.serve`.

`ask` (what a client wants) → `route` (who answers which choice) → `dispatch` (whole ensembles, failover) → `served`
(one policy: form, limits, `breaker`) → `relay` (a URL) or `embedded` (an engine: `bodies`, `upstream`, `answers`).
`wire` marks and merges answers as bytes, `app` joins all, `http` carries it, `errors` says what went wrong, `sources`
reads what is to be served.
"""
