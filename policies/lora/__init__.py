"""LoRA adapters as PEFT folders: read, merged, folded into their base, and extracted from a full checkpoint."""
