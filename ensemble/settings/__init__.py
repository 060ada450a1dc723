"""How a policy is asked about a problem.

An attempt is a loop that asks, calls and submits (`loop`). A setting (`reasoning`, `tool`, `agent`) begins attempts,
and `interleave` drives thousands of them over one session with an engine. `prompts` holds all prompts, `tool_formats`
the ways in which a model writes a call, `task` what an agent may do, and `own_agent` finds the agents of users.
"""
