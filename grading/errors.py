"""The error that users can fix. This module imports nothing, so that the command line can catch the error cheaply."""


class GradingError(ValueError):
    """Problems cannot be read or programs cannot be judged safely: the message says why, then what to do."""
