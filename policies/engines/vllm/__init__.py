"""The engine for vLLM: servers that are started here, one for each policy or one that several share."""
