"""What a user can mend in problems, samples and limits. Light on purpose: the command line catches it at once."""

from alphamix.errors import AlphamixError


class GradingError(AlphamixError):
    """Problems cannot be read, or programs cannot be judged safely: the message says why, then what to do."""
