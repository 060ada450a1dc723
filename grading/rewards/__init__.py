"""Rewards from judgements, as plain functions and in the form that TRL takes."""
