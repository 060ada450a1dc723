"""The base of all errors that a user can mend."""


class AlphamixError(ValueError):
    """Base of the errors that a user can mend: their message says what is wrong, then what to do.

    Example:
        >>> try:
        ...     alphamix.read_outcomes("missing.csv")
        ... except alphamix.AlphamixError as error:
        ...     print(str(error).partition(":")[0])
        missing.csv cannot be read (No such file or directory)
    """
