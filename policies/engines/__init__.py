"""Engines run policies: in this process, behind a URL, on vLLM servers, or from a script.

`load` finds an engine by its name. torch and transformers are imported only when a policy with weights is opened, so
sampling from a URL needs neither.
"""
