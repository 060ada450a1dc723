"""Base of the errors that the user can fix, which the command line prints as one line.

The module imports nothing, so that the command line can catch these errors without importing the code that raises them.
"""


class EnsembleError(ValueError):
    """Invalid input. The message gives the cause, then the cure."""
