"""Running an experiment: plan, sample, grade and report, resumable at any moment."""
