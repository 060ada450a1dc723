"""Questions put to each policy before a budget is spent on it, and what the answers mean for pass@k."""
