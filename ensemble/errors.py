"""Base of the errors that the user can fix, which the command line prints as one line.

The module imports next to nothing, so that catching these errors does not import the code that raises them.
"""

from alphamix.errors import AlphamixError


class EnsembleError(AlphamixError):
    """Invalid input. The message gives the cause, then the cure."""
