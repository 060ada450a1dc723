"""Files of lines: plain, or compressed by gzip or Zstandard, with or without a byte order mark.

The first bytes tell what a file is, not its name.
"""

import gzip
import importlib
import shutil
import sys
import tempfile
import zlib
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@contextmanager
def open_plain(path: Path) -> Generator[BinaryIO]:
    """Open a file for reading at its first line, decompressed. Compressed content is unpacked to a temporary file.

    Raises OSError, also where the compressed content is damaged.
    """
    with ExitStack() as stack:
        file: BinaryIO = stack.enter_context(path.open("rb"))
        beginning = file.read(len(_ZSTD))
        file.seek(0)
        if beginning.startswith((_GZIP, _ZSTD)):
            unpacked = cast("BinaryIO", stack.enter_context(tempfile.TemporaryFile()))
            _unpack(file, unpacked, is_zstd=beginning == _ZSTD)
            file = unpacked
        if file.read(len(_BYTE_ORDER_MARK)) != _BYTE_ORDER_MARK:
            file.seek(0)
        yield file


def _unpack(packed: BinaryIO, unpacked: BinaryIO, *, is_zstd: bool) -> None:
    module: Any = zstd_module() if is_zstd else gzip
    damage = module.ZstdError if is_zstd else zlib.error
    try:
        with module.open(packed, "rb") as file:
            shutil.copyfileobj(file, unpacked, 1 << 20)
    except (EOFError, gzip.BadGzipFile, damage) as error:
        kind = "Zstandard" if is_zstd else "gzip"
        raise OSError(0, f"its {kind} content is damaged: {str(error).rstrip('.')}") from None
    unpacked.seek(0)


def zstd_module() -> Any:
    """Return the module for Zstandard, which Python has from 3.14 on. It is imported when it is first needed."""
    return importlib.import_module("compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd")
