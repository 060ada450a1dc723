"""Code that runs inside vLLM's own processes. vLLM imports it by name; nothing else of the project does."""
