"""The embedded engine: checkpoints run in this process by transformers and torch."""
