"""`alphamix status` against records whose samples came when we say."""

import io
import json
import os
import time

import pytest
from rich.console import Console

from alphamix.ensemble.cli import main
from alphamix.ensemble.cli.terminal.status_table import picture, to_json
from alphamix.ensemble.run.status import read_status
from alphamix.ensemble.store import STORE_NAME, Graded, Sample, Slot, Store, is_at_work
from alphamix.grading.types import Judgement, Verdict
from alphamix.policies.types import Completion

VERDICTS = [Verdict.AC, Verdict.WA, Verdict.TLE]


def make(folder, names, samples=30, age=0.0, spacing=2.0, ungraded=5):
    """Plan 60 slots for each policy; fill the first ones, one every `spacing` seconds, the last one `age` ago."""
    now = time.time()
    slots = [Slot(60 * p + i, name, f"p{i // 10}", i % 10, i) for p, name in enumerate(names) for i in range(60)]
    with Store(folder / STORE_NAME) as store:
        store.plan(slots, {})
        for first in range(0, len(slots), 60):
            some = slots[first : first + samples]
            ages = [age + spacing * (samples - 1 - i) for i in range(samples)]
            completions = [Completion("x", "stop", 5, 100 + i, spacing) for i in range(samples)]
            store.add_samples([Sample(s, c, now - a) for s, c, a in zip(some, completions, ages, strict=True)])
            graded = [
                Graded(slot, Judgement(VERDICTS[i % 3], 0, 3, None, 0.0, 0.0), None)
                for i, slot in enumerate(some[: samples - ungraded])
            ]
            store.add_verdicts(graded, "{}")


def shown(folder):
    console = Console(width=100, file=io.StringIO(), color_system=None)
    console.print(picture(read_status(folder)))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_json_keeps_its_keys_and_tells_of_all(tmp_path, capsys):
    make(tmp_path, ["even", "odd"])
    with Store(tmp_path / STORE_NAME):
        main(["status", str(tmp_path), "--json"])
    status = json.loads(capsys.readouterr().out)
    tokens = sum(range(100, 130))
    expected = {"planned": 60, "sampled": 30, "graded": 25, "tokens": tokens, "owed": 30, "seconds": 60.0}
    assert list(status) == ["even", "odd", "*"]
    assert status["even"].items() >= expected.items()
    assert status["even"]["verdicts"] == {"AC": 9, "WA": 8, "TLE": 8}
    assert status["even"]["tokens_per_sample"] == tokens / 30
    assert status["even"]["samples_per_second"] == pytest.approx(0.5, rel=0.3)  # others may have the processor
    assert status["even"]["seconds_left"] == pytest.approx(30 / status["even"]["samples_per_second"])
    assert status["*"].items() >= {key: 2 * count for key, count in expected.items()}.items()
    assert status["*"]["at_work"] is True
    assert abs(status["*"]["last_write"] - time.time()) < 600


def test_rates_are_of_the_last_minutes_only(tmp_path):
    make(tmp_path, ["even"], age=3000)
    with Store(tmp_path / STORE_NAME):
        count = read_status(tmp_path).policies["even"]
    assert (count.samples_per_second, count.tokens_per_second) == (0, 0)
    assert count.last_sample == pytest.approx(time.time() - 3000, abs=500)


def test_a_run_without_a_process_and_a_finished_run(tmp_path):
    make(tmp_path, ["even"])
    status = read_status(tmp_path)
    assert not status.is_at_work
    assert to_json(status)["even"]["seconds_left"] is None
    assert "`alphamix resume` continues the run" in " ".join(shown(tmp_path))
    whole = tmp_path / "whole"
    whole.mkdir()
    make(whole, ["even"], samples=60, ungraded=0)
    assert "all samples are drawn and graded" in " ".join(shown(whole))


def test_a_run_that_has_no_sample_yet(tmp_path):
    make(tmp_path, ["even"], samples=0, ungraded=0)
    count = read_status(tmp_path).policies["even"]
    assert (count.tokens_per_sample, count.last_sample, count.owed) == (None, None, 60)
    assert any(line.split() == ["even", "0", "60", "0"] for line in shown(tmp_path))


def test_forty_policies_with_long_names_fit_100_columns(tmp_path):
    names = [f"a-policy-whose-name-somebody-made-very-long-indeed@{i:+.2f}" for i in range(40)]
    make(tmp_path, names, samples=3, ungraded=0)
    with Store(tmp_path / STORE_NAME):
        lines = shown(tmp_path)
    while not lines[0].startswith("policy"):
        lines.pop(0)
    assert all(len(line) <= 100 for line in lines)
    text = "".join(line[: lines[0].index("done")].strip() for line in lines[1:])
    assert all(name in text for name in names)
    assert lines[0].split() == [
        *("policy", "done", "owed", "graded", "AC", "WA", "TLE", "tokens", "samples/s", "tok/s", "left"),
    ]


def test_looking_never_keeps_a_writer_out(tmp_path):
    path = tmp_path / STORE_NAME
    assert not is_at_work(path)
    for _ in range(3):
        with Store(path):
            assert is_at_work(path)
            assert is_at_work(path)
        assert not is_at_work(path)


def test_watch_goes_with_the_table_alone(tmp_path, capsys):
    make(tmp_path, ["even"])
    with pytest.raises(SystemExit) as ended:
        main(["status", str(tmp_path), "--watch", "--json"])
    assert ended.value.code == 2
    assert "leave out --json" in capsys.readouterr().err
    main(["status", str(tmp_path), "--watch"])  # no process is at work and this is no terminal: it prints once
    assert "even" in capsys.readouterr().out


def test_a_file_that_is_younger_than_now_was_written_just_now(tmp_path):
    make(tmp_path, ["even"])
    later = time.time() + 7200  # the clock of a file server that is ahead
    os.utime(tmp_path / STORE_NAME, (later, later))
    status = read_status(tmp_path)
    assert status.last_write == status.now
    assert "last write 0:00 ago" in " ".join(shown(tmp_path))
