"""Checkers: they decide whether what a program printed or returned counts as the expected output."""
