"""How a policy is asked about a problem, one file per setting."""
