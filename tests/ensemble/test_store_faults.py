"""What can go wrong under a run's record: kills, full disks, folders that cannot be written, others reading meanwhile.

Each in real processes, on real files.
"""

import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest

from alphamix.ensemble.store import STORE_NAME, Graded, Sample, Slot, Store, StoreError, StoreLostError
from alphamix.grading.types import Judgement, Verdict
from alphamix.policies.types import Completion

NUM_SLOTS = 3000
BATCH = 3
KILLS = 30
ABOUT = {"problems": "hash", "sampling.setting": '"reasoning"', "policies.low": "hash"}
SLOTS = [Slot(number, "low", f"p{number // 100}", number % 100, number) for number in range(NUM_SLOTS)]
ACCEPTED = Judgement(Verdict.AC, 3, 3, None, 0.01, 1.5)


def text(slot):
    return f"# {slot.number}\n" + random.Random(slot.number).randbytes(300).hex()


def say(word):
    """Print a line whole or not at all: `print` without a buffer writes its end apart, and may be killed between."""
    os.write(1, f"{word}\n".encode())


def sample(slot):
    return Sample(slot, Completion(text(slot), "stop", 5, 7, 0.5), 1.0)


def write(folder):
    """Go on with a record: plan it, then fill it with samples and verdicts, a few at a time."""
    with Store(folder / STORE_NAME) as store:
        if not store.about():
            store.plan(SLOTS, ABOUT)
        say("begun")
        owed = list(store.owed_slots("low"))
        for first in range(0, len(owed), BATCH):
            batch = owed[first : first + BATCH]
            store.add_samples([sample(slot) for slot in batch])
            say("stored")
            store.add_verdicts([Graded(slot, ACCEPTED, None) for slot in batch], "{}")
        lost = store.ungraded_numbers()  # to a kill between both
        store.add_verdicts([Graded(SLOTS[number], ACCEPTED, None) for number in lost], "{}")


def write_again_and_again(folder):
    """For each line that comes, write in a new process, which must be killed; say its number, and when it has ended."""
    for _ in sys.stdin:
        child = os.fork()
        if not child:
            say(os.getpid())
            write(folder)
            say("done")
            signal.pause()
        os.waitpid(child, 0)
        say("ended")


def check(folder):
    """The record is sound and holds each slot at most once; return how many samples."""
    with closing(sqlite3.connect(folder / STORE_NAME)) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert db.execute("PRAGMA foreign_key_check").fetchall() == []
    with Store(folder / STORE_NAME, read_only=True) as store:
        assert store.about() in ({}, ABOUT)
        assert store.slots("low") in ([], SLOTS)
        samples = list(store.samples())
        numbers = [sample.slot.number for sample in samples]
        assert len(numbers) == len(set(numbers))
        assert [sample.completion.text for sample in samples] == [text(sample.slot) for sample in samples]
        assert set(store.owed("low")) | set(numbers) >= set(range(len(store.slots("low"))))
        graded = [one.slot.number for one, _ in store.graded()]
        assert len(graded) == len(set(graded))
        assert set(graded) <= set(numbers)
        return len(numbers)


def has_begun(folder):
    """Whether there are tables yet."""
    if not (folder / STORE_NAME).exists():
        return False
    with closing(sqlite3.connect(folder / STORE_NAME)) as db:
        return db.execute("PRAGMA user_version").fetchone() != (0,)


def start(folder, function="write", **options):
    command = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); from pathlib import Path; "
    command += f"import test_store_faults as faults; faults.{function}(Path({str(folder)!r}))"
    return subprocess.Popen([sys.executable, "-c", command], stdout=subprocess.PIPE, text=True, **options)


def test_kills_at_any_moment_lose_nothing_that_was_stored(tmp_path):
    rng = random.Random(0)
    stored_before = 0
    with start(tmp_path, "write_again_and_again", stdin=subprocess.PIPE) as writers:
        assert writers.stdin is not None
        assert writers.stdout is not None
        for kill in range(KILLS):
            writers.stdin.write("go\n")
            writers.stdin.flush()
            lines = [writers.stdout.readline()]
            wanted = rng.randrange(1, 8) if kill % 3 else 0  # the others may be killed while they open the file or plan
            while len(lines) <= wanted and lines[-1] not in ("done\n", "ended\n"):
                lines.append(writers.stdout.readline())
            time.sleep(rng.random() * 0.02)
            os.kill(int(lines[0]), signal.SIGKILL)
            while lines[-1] != "ended\n":
                lines.append(writers.stdout.readline())
            stored_batches = lines.count("stored\n")
            stored = check(tmp_path) if has_begun(tmp_path) else 0
            assert stored >= stored_before + BATCH * stored_batches
            stored_before = stored
            if stored == NUM_SLOTS:  # begin once more
                for file in tmp_path.iterdir():
                    file.unlink()
                stored_before = 0
        writers.stdin.close()
    write(tmp_path)
    assert check(tmp_path) == NUM_SLOTS
    with Store(tmp_path / STORE_NAME, read_only=True) as store:
        assert store.ungraded_numbers() == []


def add_in_tens(store):
    for first in range(20, NUM_SLOTS, 10):
        store.add_samples([sample(slot) for slot in SLOTS[first : first + 10]])


def test_a_full_disk_is_one_error_and_what_was_stored_is_kept(tmp_path):
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Store(tmp_path / STORE_NAME) as store:
        store.plan(SLOTS, ABOUT)
        store.add_samples([sample(slot) for slot in SLOTS[:20]])
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, before[1]))
        try:
            with pytest.raises(StoreLostError, match=f"{STORE_NAME} cannot be written .*; what it holds is kept"):
                add_in_tens(store)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        kept = len(list(store.samples()))
        assert kept >= 20
        assert kept % 10 == 0
        store.add_samples([sample(slot) for slot in SLOTS[kept : kept + 10]])  # there is room again
    assert check(tmp_path) == kept + 10


def _mount(folder, options):
    """Give this process a small file system of its own, or say that it may not."""
    script = f"mount -t tmpfs -o {options} none {folder} && exec {sys.executable} -"
    return ["unshare", "--mount", "sh", "-c", script]


def _in_a_small_file_system(folder, options, script):
    script = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n{script}"
    try:
        return subprocess.run(
            _mount(folder, options), input=script, capture_output=True, text=True, check=False, timeout=60
        )
    except FileNotFoundError:
        pytest.skip("no unshare here")


def test_a_full_file_system_too(tmp_path):
    script = f"""
from test_store_faults import *
folder = Path({str(tmp_path)!r})
with Store(folder / STORE_NAME) as store:
    store.plan(SLOTS, ABOUT)
    try:
        while True:
            write_some = [sample(slot) for slot in list(store.owed_slots("low"))[:10]]
            store.add_samples(write_some)
            if not write_some:
                break
        print("room for all")
    except StoreLostError as error:
        print("lost:", error)
        kept = len(list(store.samples()))
print("kept", kept == check(folder), kept % 10, kept > 0)
from alphamix.ensemble.cli import main
main(["status", str(folder), "--json"])
"""
    done = _in_a_small_file_system(tmp_path, "size=700k", script)
    if "mount" in done.stderr or "unshare" in done.stderr:
        pytest.skip("no file system of one's own here")
    assert done.returncode == 0, done.stderr
    assert "run.sqlite cannot be written (database or disk is full); what it holds is kept" in done.stdout
    assert "kept True 0 True" in done.stdout


@pytest.fixture
def public():
    """A folder that every user finds; those of pytest are its user's own."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)
        Path(folder).chmod(0o755)


def read_and_try_to_write(folder):
    """In a folder that cannot be written: count what is there, then fail to open it for writing."""
    if os.getuid() == 0:  # whom no permission stops
        try:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
        except OSError:
            print("root is the only user here")
            return
    for read_only in (True, False):
        try:
            with Store(folder / STORE_NAME, read_only=read_only) as store:
                print(store.progress().loc["low"].astype(int).tolist())
        except (StoreError, StoreLostError) as error:
            print(error)


def said(folder, function):
    with start(folder, function) as process:
        assert process.stdout is not None
        lines = process.stdout.read().splitlines()
    if lines == ["root is the only user here"]:
        pytest.skip(lines[0])
    return lines


def test_a_folder_that_cannot_be_written_is_read_all_the_same(public):
    with Store(public / STORE_NAME) as store:
        store.plan(SLOTS, ABOUT)
        store.add_samples([sample(slot) for slot in SLOTS[:20]])
    public.chmod(0o555)
    lines = said(public, "read_and_try_to_write")
    assert lines == [f"[{NUM_SLOTS}, 20, 0, 140, 10, 0, 0]", f"{public} cannot be written (Permission denied)"]


def test_what_was_cut_off_is_not_read_in_part(tmp_path, public):
    """Where a log stands beside a record and cannot be put into it, reading only the record would lose samples."""
    with Store(tmp_path / STORE_NAME) as store:
        store.plan(SLOTS, ABOUT)
        for name in (STORE_NAME, f"{STORE_NAME}-wal"):
            shutil.copy(tmp_path / name, public / name)
    public.chmod(0o555)
    lines = said(public, "read_and_try_to_write")
    assert lines[0].endswith(f"copy it, together with {STORE_NAME}-wal, to a folder that you can write to")
    public.chmod(0o755)
    with Store(public / STORE_NAME, read_only=True) as store:
        assert store.slots("low") == SLOTS


def test_threads_and_processes_read_while_one_writes(tmp_path):
    """Every reader sees whole batches only, never fewer than before."""
    writer = start(tmp_path)
    assert writer.stdout is not None
    assert writer.stdout.readline() == "begun\n"
    drain = threading.Thread(target=writer.stdout.read)
    drain.start()
    problems: list[str] = []
    reads = [0, 0]

    def read(index):
        before = 0
        while before < NUM_SLOTS and time.monotonic() < deadline:
            with Store(tmp_path / STORE_NAME, read_only=True) as store, store.snapshot():
                samples = list(store.samples())
                progress = store.progress().loc["low"]
            reads[index] += 1
            sampled = int(progress["sampled"])
            if not before <= len(samples) == sampled or sampled % BATCH:
                problems.append(f"{before} samples before, {len(samples)} now, {sampled} counted")
                return
            before = len(samples)

    deadline = time.monotonic() + 100
    readers = [threading.Thread(target=read, args=(index,)) for index in range(2)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    drain.join()
    assert writer.wait() == 0
    writer.stdout.close()
    assert not problems
    assert min(reads) > 1
    assert check(tmp_path) == NUM_SLOTS


def test_threads_may_share_a_reader(tmp_path):
    with Store(tmp_path / STORE_NAME) as store:
        store.plan(SLOTS, ABOUT)
        store.add_samples([sample(slot) for slot in SLOTS])
    found: list[list[str]] = []
    with Store(tmp_path / STORE_NAME, read_only=True) as reader:
        threads = [
            threading.Thread(target=lambda: found.append([s.completion.text for s in reader.samples()]))
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == [[text(slot) for slot in SLOTS]] * 4
