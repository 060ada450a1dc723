"""How a policy is asked about a problem.

An attempt is a loop that asks, runs code and submits (`loop`). A setting begins attempts (`reasoning`, `tool`), and
`interleave` drives thousands of them over one session with an engine. `prompts` holds all prompts, `tool_formats` the
ways in which a model writes a call, and `agent_tools` what a terminal agent may do in its workspace.
"""
