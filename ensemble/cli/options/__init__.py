"""Option types and options that several commands share."""
