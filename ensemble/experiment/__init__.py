"""Experiments: the form of their file, how settings are layered, and what they name, read and checked."""
