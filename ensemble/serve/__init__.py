"""The ensemble behind an OpenAI-compatible endpoint; start with `app.serve`.

`bodies` (what clients ask) → `route` (who answers which choice) → `upstream` (the engines) → `answers` (what
clients get). `app` joins them, `http` carries them, `errors` says what went wrong.
"""
