"""Code that runs inside vLLM's own processes. vLLM imports it by name; the rest of the project never imports it."""
