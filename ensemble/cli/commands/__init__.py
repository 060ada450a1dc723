"""The subcommands of `alphamix`, one module each."""
