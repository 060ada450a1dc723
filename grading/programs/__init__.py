"""Programs in completions: extracting them, and joining them with the prologue of their problem."""
