"""Serves policies and ensembles behind an OpenAI-compatible endpoint; `server.serve` starts it.

A request is parsed by `protocol`, split over policies by `routing`, and answered by `backends`: remote servers, or
engines driven from this process. `best_of` draws a budget instead, judges the draws and answers with the best. `app`
joins these, `http_io` carries the bytes, `catalogue` reads what is served, and `metrics` counts.
"""
