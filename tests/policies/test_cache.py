"""A large file is hashed once, and again when it has changed in any way."""

import hashlib
import os
from pathlib import Path

import pytest

from alphamix.policies.checkpoints import cache
from alphamix.policies.checkpoints.cache import file_digest


@pytest.fixture
def hashed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that were really read."""
    monkeypatch.setenv("ALPHAMIX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(cache, "_SETTLED_NS", 0)
    names: list[str] = []
    real = hashlib.file_digest

    def counted(file: object, name: str) -> object:
        names.append(Path(file.name).name)  # type: ignore[attr-defined]
        return real(file, name)  # type: ignore[arg-type]

    monkeypatch.setattr(hashlib, "file_digest", counted)
    return names


def make(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def test_a_file_that_is_the_same_is_read_once(tmp_path: Path, hashed: list[str]) -> None:
    content = b"a" * (1 << 20)
    path = make(tmp_path / "large", content)
    assert file_digest(path) == file_digest(path) == hashlib.sha256(content).hexdigest()
    assert hashed == ["large"]


def test_a_change_that_keeps_size_and_time_is_seen(tmp_path: Path, hashed: list[str]) -> None:
    path = make(tmp_path / "large", b"a" * (1 << 20))
    before, status = file_digest(path), path.stat()
    with path.open("r+b") as file:
        file.write(b"b")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert file_digest(path) != before
    assert hashed == ["large", "large"]


def test_what_changed_a_moment_ago_is_not_kept(
    tmp_path: Path, hashed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "_SETTLED_NS", 10**12)
    path = make(tmp_path / "large", b"a" * (1 << 20))
    file_digest(path)
    file_digest(path)
    assert hashed == ["large", "large"]


def test_small_files_and_a_cache_that_cannot_be_written_do_no_harm(
    tmp_path: Path, hashed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    small, large = make(tmp_path / "small", b"a"), make(tmp_path / "large", b"a" * (1 << 20))
    file_digest(small)
    assert not (tmp_path / "cache").exists()
    monkeypatch.setenv("ALPHAMIX_CACHE", str(small))  # no folder can be made there
    assert file_digest(large) == hashlib.sha256(b"a" * (1 << 20)).hexdigest()
    assert hashed == ["small", "large"]
