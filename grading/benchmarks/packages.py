"""Folders of files that belong together, or zip files of such a folder: safe to read whoever has made them.

Nothing outside of the folder is read: a symbolic link or a name that leads out is refused. So are files, and zip files
as a whole, that are too large, before they are read. A zip file is unpacked to a temporary folder.
"""

import os
import re
import shutil
import stat
import tempfile
import zipfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from alphamix.grading.errors import GradingError

MOST_FILE_BYTES = 1 << 28
"""Largest file that is read: tests are held in memory, and no program reads more than this in a few seconds."""
MOST_PACKAGE_BYTES = 1 << 32
"""Largest size of an unpacked zip file."""
_MOST_YAML_BYTES = 1 << 20
_MARKER = "problem.yaml"
_ZIPS = (".zip", ".kpp")
_TOOLS = "testdata_tools"
"""A folder of helpers that many collections of packages hold, with packages as its examples."""
_LONGEST_LINK = 1 << 12
_LINK = re.compile(r"[\w.+-]+(/[\w.+-]+)*\.(in|ans)", re.ASCII)
"""What a file holds that was a link, where the zip file was made without links."""


class Package:
    """The files of one problem."""

    def __init__(self, root: Path, name: str) -> None:
        self._root = root
        self.name = name

    @cached_property
    def _files(self) -> list[str]:
        """The names of all files, with those behind links to folders, in lexicographic order."""
        return sorted(self._walk(self._root, (self._root.resolve(),)))

    def _walk(self, folder: Path, above: tuple[Path, ...]) -> Iterator[str]:
        for path in folder.iterdir():
            if path.is_symlink():
                self._refuse_leading_out(path)
            if path.is_dir():
                if path.resolve() in above:
                    raise GradingError(f"{self._relative(path)}: is a link to a folder that it is in: remove it")
                yield from self._walk(path, (*above, path.resolve()))
            yield self._relative(path)

    def names(self, folder: str, suffix: str) -> list[str]:
        """Return the names of the files below a folder that end in `suffix`, which may be empty."""
        return [
            name
            for name in self._files
            if name.startswith(f"{folder}/") and name.endswith(suffix) and (self._root / name).is_file()
        ]

    def has(self, name: str) -> bool:
        """Check whether there is such a file or folder."""
        return name in self._known

    @cached_property
    def _known(self) -> frozenset[str]:
        return frozenset(self._files)

    def text(self, name: str) -> str:
        """Return the content of a file. Raises GradingError if it is not UTF-8."""
        text = self._decoded(name)
        if len(text) < _LONGEST_LINK and _LINK.fullmatch(text) and name.endswith((".in", ".ans")):
            target = os.path.normpath(PurePosixPath(name).parent / text)
            return self._decoded(target) if self.has(target) else text
        return text

    def _decoded(self, name: str) -> str:
        try:
            return self._read(name, MOST_FILE_BYTES).decode()
        except UnicodeDecodeError as error:
            raise GradingError(f"{name}: is not UTF-8 ({error.reason} at byte {error.start:,}): correct it") from None

    def yaml(self, name: str) -> dict[str, Any]:
        """Return the keys of a YAML file. Tags that make objects are refused."""
        try:
            content: Any = yaml.safe_load(self._read(name, _MOST_YAML_BYTES)) or {}
        except (yaml.YAMLError, RecursionError, ValueError) as error:
            raise GradingError(f"{name}: not YAML ({' '.join(str(error).split())}): correct it") from None
        if not isinstance(content, dict):
            raise GradingError(f"{name}: a {type(content).__name__}: it should be a table of keys and values")
        return content

    def _read(self, name: str, most: int) -> bytes:
        try:
            path = (self._root / name).resolve(strict=True)
            if not path.is_relative_to(self._root.resolve()):
                raise GradingError(f"{name}: leads out of the package: remove it")
            if not stat.S_ISREG(path.stat().st_mode):
                raise GradingError(f"{name}: is no file: remove it")
            if path.stat().st_size > most:
                raise GradingError(f"{name}: has {path.stat().st_size:,} bytes, more than {most:,}: leave it out")
            return path.read_bytes()
        except OSError as error:
            raise GradingError(f"{name}: cannot be read ({error.strerror or error}): add it") from None

    def _refuse_leading_out(self, path: Path) -> None:
        if not path.resolve().is_relative_to(self._root.resolve()):
            raise GradingError(f"{self._relative(path)}: is a link that leads out of the package: remove it")
        if not path.exists():
            raise GradingError(f"{self._relative(path)}: is a link to nothing: remove it")

    def _relative(self, path: Path) -> str:
        return path.relative_to(self._root).as_posix()


def each_package(path: Path) -> Iterator[tuple[str, Package | GradingError]]:
    """Yield the package in a folder or zip file, or all below a folder, after their places.

    A package lasts until the next one is asked for. Raises GradingError if there is none.
    """
    found = list(_places(path))
    if not found:
        raise GradingError(f"{path}: has no package, which is a folder with {_MARKER} or a zip file of it: correct it")
    for place in found:
        if place.is_dir():
            name = (place.resolve() if place == path else place.relative_to(path)).as_posix()
            yield str(place), Package(place, name.rpartition("/")[2] if place == path else name)
            continue
        name = (place.name if place == path else place.relative_to(path).as_posix()).rpartition(".")[0]
        try:
            with _unpacked(place) as folder:
                yield str(place), Package(folder, name)
        except GradingError as error:
            yield str(place), error


def _places(path: Path) -> Iterator[Path]:
    if path.is_file() or (path / _MARKER).is_file():
        yield path
        return
    for folder, folders, files in os.walk(path):
        is_package = _MARKER in files
        if is_package:
            yield Path(folder)
        else:
            yield from (Path(folder, name) for name in sorted(files) if name.endswith(_ZIPS))
        folders[:] = [] if is_package else sorted(n for n in folders if n != _TOOLS and not n.startswith("."))


@contextmanager
def _unpacked(path: Path) -> Generator[Path]:
    """Unpack a zip file to a temporary folder, and yield the folder in it that is the package."""
    with tempfile.TemporaryDirectory(prefix="alphamix-") as temporary:
        root = Path(temporary)
        try:
            with zipfile.ZipFile(path) as archive:
                for entry in sorted(_checked_entries(archive), key=_is_link):  # nothing is written through a link
                    _unpack(archive, entry, root / entry.filename)
        except (zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError, ValueError) as error:
            raise GradingError(f"is no zip file that can be read ({error}): make it anew") from None
        markers = sorted(root.glob(_MARKER)) or sorted(root.glob(f"*/{_MARKER}"))
        if not markers:
            raise GradingError(f"has no {_MARKER}, at its top or in one folder: zip the folder of the package")
        yield markers[0].parent


def _checked_entries(archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    entries = archive.infolist()
    total = sum(entry.file_size for entry in entries)
    if total > MOST_PACKAGE_BYTES:
        raise GradingError(f"unpacks to {total:,} bytes, more than {MOST_PACKAGE_BYTES:,}: leave it out")
    for entry in entries:
        name = PurePosixPath(entry.filename)
        if name.is_absolute() or ".." in name.parts:
            raise GradingError(f"{entry.filename}: leads out of the package: make the zip file anew")
        if entry.file_size > MOST_FILE_BYTES:
            raise GradingError(f"{entry.filename}: has {entry.file_size:,} bytes, more than {MOST_FILE_BYTES:,}")
    return entries


def _unpack(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, target: Path) -> None:
    if entry.is_dir():
        target.mkdir(parents=True, exist_ok=True)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    if _is_link(entry):
        target.symlink_to(archive.read(entry).decode())
        return
    with archive.open(entry) as source, target.open("xb") as file:
        shutil.copyfileobj(source, file, 1 << 20)


def _is_link(entry: zipfile.ZipInfo) -> bool:
    return stat.S_ISLNK(entry.external_attr >> 16)
