"""Rewards for reinforcement learning from judgements, as plain functions and in the form that TRL expects."""
