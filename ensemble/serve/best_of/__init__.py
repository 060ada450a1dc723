"""Best of a budget: draw, judge or compare, and answer with the choice that won."""
