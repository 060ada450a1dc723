"""Programs in completions: found, and completed by the prologue that their problem gives."""
