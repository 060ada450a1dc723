"""Engine for any OpenAI-compatible URL: requests, retries, timeouts, and concurrency that adapts to each server."""
