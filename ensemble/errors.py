"""What a user can mend: every error of this package that is told in one line has this base.

Light on purpose: the command line catches it without importing what raises it.
"""

from alphamix.errors import AlphamixError


class EnsembleError(AlphamixError):
    """Something that was given does not hold: the message says what, then what to do."""
