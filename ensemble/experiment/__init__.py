"""Experiments: the schema of their file, layered settings, and the policies and problems that they name."""
