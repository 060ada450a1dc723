"""The engine for any OpenAI-compatible URL: requests, retries, time-outs, and as many in flight as a server bears."""
