"""The error that users can fix. This module imports next to nothing, so that catching the error is cheap."""

from alphamix.errors import AlphamixError


class GradingError(AlphamixError):
    """Problems cannot be read or programs cannot be judged safely: the message says why, then what to do."""


class UnfitError(GradingError):
    """A problem is as it was published, but cannot be judged here. A selection `without_errata` leaves it out."""
