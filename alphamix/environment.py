"""Secrets in environment variables, named by a file or an option.

Where somebody gives the secret in place of the name of its variable, no error shows it.
"""

import os
import re
from typing import Annotated

from pydantic import BeforeValidator

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PLAIN_NAME = re.compile(r"[A-Z]{1,16}[0-9]?(_([A-Z]{1,16}[0-9]?|[0-9]{1,2}))*")
"""Names of capital words, which are no secrets: those have small letters, or capitals and digits mixed, or are long."""
_CURE = "give the name of the variable that holds the secret, never the secret itself"


def read_secret(variable: str, need: str, error: type[Exception]) -> str:
    """Return the value of an environment variable, without blanks around it.

    Args:
        variable: its name, as it was given.
        need: what needs the value, as the beginning of a sentence.
        error: the class of errors.

    Raises:
        error: the variable is unset.
    """
    if value := os.environ.get(variable, "").strip():
        return value
    if not _PLAIN_NAME.fullmatch(variable):
        raise error(f"{need}, but there is no variable of the name that was given: {_CURE}, and export it.")
    raise error(f"{need}, but the variable {variable} is unset: export {variable}=… first.")


def _checked_name(given: object) -> str:
    if not isinstance(given, str) or not _NAME.fullmatch(given):
        raise ValueError(f"this is no name of an environment variable; {_CURE}")
    return given


VariableName = Annotated[str, BeforeValidator(_checked_name)]
"""Name of an environment variable, as the type of a field of a pydantic model."""
