"""The command `alphamix`, and `python -m alphamix`."""

import importlib
import sys


def main() -> None:
    """Run the command line. Ctrl-C ends it quietly, even while it is still being imported."""
    try:
        importlib.import_module("alphamix.ensemble.cli").main()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
