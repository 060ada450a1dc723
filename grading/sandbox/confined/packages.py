"""Import of packages whose files are visible in the sandbox, though the directory that they are installed in is not."""

import importlib
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location


class _Finder:
    """Finds top-level modules by a table; the import system itself finds what is inside of them."""

    def __init__(self, location_of_name: dict[str, str]) -> None:
        self._location_of_name = location_of_name

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """Return where a module is; None lets the import fail."""
        location = self._location_of_name.get(name)
        return None if location is None else spec_from_file_location(name, location)


def provide(names: Sequence[str], location_of_name: dict[str, str]) -> None:
    """Make modules importable, and import `names`, so that programs need not. Raises ImportError."""
    sys.meta_path.append(_Finder(location_of_name))  # pyright: ignore[reportArgumentType]
    for name in names:
        try:
            importlib.import_module(name)
        except Exception as error:
            raise ImportError(f"{name} cannot be imported: {type(error).__name__}: {error}") from error
