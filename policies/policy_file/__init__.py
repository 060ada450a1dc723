"""Policies files: their form, how they are read and written, and the recipe of each policy as data."""
