"""The OpenAI protocol: what requests say, what answers look like, and errors."""
