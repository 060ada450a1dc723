"""`python -m ensemble.cli`: the command `alphamix` without its script."""

from ensemble.cli import main

main()
