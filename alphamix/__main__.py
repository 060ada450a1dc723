"""`python -m alphamix`: the command `alphamix` without its script."""

from alphamix.ensemble.cli import main

main()
