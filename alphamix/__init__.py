"""alphamix: inference-time ensemble scaling."""
