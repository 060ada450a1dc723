"""Checkpoint folders: where they are, what their safetensors files hold, and how new ones are written whole."""
