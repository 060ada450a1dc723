"""Folders appear whole or not at all, and what killed processes leave is removed."""

import fcntl
import multiprocessing
import os
import shutil
import signal
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from alphamix.atomic import whole_folder
from alphamix.policies.checkpoints.target_folder import check_room, has_files, refuse_taken
from alphamix.policies.types import PolicyError


def begin(folder: Path, begun: Connection) -> None:
    with whole_folder(folder) as temporary:
        (temporary / "weights").write_text("half")
        begun.send(temporary)
        signal.pause()


def test_a_folder_appears_whole(tmp_path: Path) -> None:
    with whole_folder(tmp_path / "a" / "b") as temporary:
        (temporary / "weights").write_text("whole")
        assert not (tmp_path / "a" / "b").exists()
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b"]
    assert (tmp_path / "a" / "b" / "weights").read_text() == "whole"


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), whole_folder(tmp_path / "a") as temporary:
        (temporary / "absent" / "weights").write_text("half")
    assert not list(tmp_path.iterdir())


def test_what_another_has_made_meanwhile_stays(tmp_path: Path) -> None:
    with whole_folder(tmp_path / "a") as temporary:
        (temporary / "weights").write_text("ours")
        with whole_folder(tmp_path / "a") as other:
            (other / "weights").write_text("theirs")
    assert (tmp_path / "a" / "weights").read_text() == "theirs"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_left_overs_of_the_killed_go_and_those_of_the_living_stay(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    processes, partial = [], []
    for name in ("killed", "living"):
        here, there = context.Pipe()
        process = context.Process(target=begin, args=(tmp_path / name, there))
        process.start()
        partial.append(here.recv())
        processes.append(process)
    try:
        with whole_folder(tmp_path / "a"):
            assert all((path / "weights").is_file() for path in partial)
        os.kill(processes[0].pid or 0, signal.SIGKILL)
        processes[0].join()
        assert (partial[0] / "weights").is_file()
        (tmp_path / ".mine.partial").mkdir()  # not one of ours
        with whole_folder(tmp_path / "b"):
            pass
        assert sorted(path.name for path in tmp_path.iterdir()) == sorted([".mine.partial", partial[1].name, "a", "b"])
    finally:
        processes[1].kill()
        processes[1].join()


def test_a_taken_folder_is_refused_and_an_empty_one_is_not(tmp_path: Path) -> None:
    refuse_taken(tmp_path)
    refuse_taken(tmp_path / "nowhere")
    refuse_taken(tmp_path / "not" / "yet")
    (tmp_path / "file").write_text("")
    assert has_files(tmp_path)
    for taken in (tmp_path, tmp_path / "file"):
        with pytest.raises(PolicyError, match="already exists: give another folder, or remove this one"):
            refuse_taken(taken)


def test_both_numbers_are_told_where_the_disk_has_no_room(tmp_path: Path) -> None:
    check_room(tmp_path / "not" / "yet", 1)
    needed = shutil.disk_usage(tmp_path).total + 1
    with pytest.raises(PolicyError, match=rf"would take {needed} bytes, but the disk of {tmp_path} has \d+ free: make"):
        check_room(tmp_path / "not" / "yet", needed)


def test_a_folder_that_is_removed_before_its_lock_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, made = fcntl.flock, []

    def late(descriptor: int, operation: int) -> None:
        """The lock comes after another process has removed the first folder."""
        made.extend(tmp_path.iterdir())
        if len(made) == 1:
            made[0].rmdir()
        real(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    with whole_folder(tmp_path / "a") as temporary:
        (temporary / "weights").write_text("whole")
    assert len(made) == 2
    assert (tmp_path / "a" / "weights").is_file()
