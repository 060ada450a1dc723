"""What is shown of a run while it goes: rates and times left by a clock of our own, on a terminal and in a log."""

import io
import re

import pandas as pd
import pytest
from rich.console import Console

from alphamix.ensemble.cli.terminal.formatting import duration, shortened
from alphamix.ensemble.cli.terminal.progress import GradingProgress, RunProgress
from alphamix.ensemble.run.pace import Pace, RecentRate, time_left
from alphamix.ensemble.run.progress_events import Cap, JudgeLoad, Spent
from alphamix.grading.types import Verdict


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


def console(is_terminal=True, height=40):
    return Console(force_terminal=is_terminal, width=100, height=height, file=io.StringIO(), color_system=None)


def progress_of(names, planned=1000, sampled=0):
    columns = {"planned": planned, "sampled": sampled, "graded": sampled, "tokens": 10 * sampled, "seconds": 0.0}
    return pd.DataFrame(columns, index=names)


def picture(display):
    with display.console.capture() as captured:
        display.console.print(display.get_renderable())
    return captured.get().splitlines()


def row(display, name):
    """Numbers of a policy's row: without its name and its bar."""
    (line,) = [line for line in picture(display) if line.startswith(name)]
    return re.sub(r"[━╸╺]+", "", line.removeprefix(name)).split()


def test_recent_rate_follows_the_last_minute_and_falls_in_a_standstill():
    rate = RecentRate(0.0)
    assert rate.per_second(0.0) == 0.0
    for second in range(1, 601):
        rate.add(2 if second <= 300 else 8, second)
    assert rate.per_second(600.0) == pytest.approx(8.0)
    assert rate.per_second(660.0) == pytest.approx(4.0, rel=0.05)
    slow = RecentRate(0.0)
    for batch in range(1, 20):
        slow.add(256, 300.0 * batch)
    assert slow.per_second(300.0 * 19) == pytest.approx(256 / 300)


def test_many_within_a_second_take_no_room_and_are_all_counted():
    rate = RecentRate(0.0)
    for call in range(1, 100_001):
        rate.add(1, call / 1000)
    assert rate.per_second(100.0) == pytest.approx(1000, rel=0.01)
    assert len(rate._marks) < 70


def test_time_left_is_that_of_the_slowest_and_no_less_than_all_at_the_rate_of_all():
    assert time_left([Pace(100, 10), Pace(1000, 10)], Pace(1100, 20)) == 100
    assert time_left([Pace(100, 10)], Pace(1100, 10)) == 110
    assert time_left([Pace(0, 0)]) == 0
    assert time_left([Pace(1, 0), Pace(1, 1)]) is None


def test_durations_and_names_are_short():
    assert [duration(seconds) for seconds in (None, 5, 3723, 200_000)] == ["–", "0:05", "1:02:03", "2 d 07 h"]
    assert shortened("coverage@+0.50", 14) == "coverage@+0.50"
    assert shortened("coverage@+0.50", 9) == "cove…0.50"


def test_policies_side_by_side_have_their_own_rates():
    clock = Clock()
    shown = RunProgress(console(), quiet=False, clock=clock)
    shown.begin(progress_of(["even", "odd", "late"], sampled=100))
    shown.began("even")
    shown.began("odd")
    for _ in range(10):
        clock.now += 1
        shown.sampled("even", Spent(20, 2000, 1.0))
        shown.sampled("odd", Spent(5, 50, 1.0))
        shown.graded([Verdict.AC] * 5 + [Verdict.WA] * 15)
    assert row(shown, "even") == ["300", "700", "20.0", "2,000", "0:35"]
    assert row(shown, "odd") == ["150", "850", "5.0", "50.0", "2:50"]
    assert row(shown, "all") == ["550", "2,450", "25.0", "2,050", "2:50"]
    assert row(shown, "graded") == ["500", "2,500", "20.0", "2:05"]
    assert picture(shown)[-3:] == ["1 waiting", "WA 75%  AC 25%", "spent 550 of 3,000 samples, 23,500 tokens"]


def test_verdicts_of_equal_programs_do_not_make_the_judge_look_fast():
    """Of 9,000 samples, 8,500 have had their verdicts at once; 500 wait for 250 runs, of which 5 end in a second."""
    clock = Clock()
    shown = RunProgress(console(), quiet=False, clock=clock)
    shown.begin(progress_of(["even"], planned=10_000))
    shown.began("even")
    for second in range(1, 11):
        clock.now += 1
        shown.sampled("even", Spent(900, 9000, 1.0))
        shown.graded([Verdict.AC] * 850)
        shown.judging(JudgeLoad(900 * second, 50 * second, 5 * second, 25 * second))
    # 250 runs are known, and a thirtieth of the last 1,000 samples will need one.
    left = (250 + 1000 * 300 / 9000) / 5
    assert row(shown, "graded")[-1] == duration(left) == "0:57"
    assert row(shown, "all")[-1] == "0:57"
    shown.begin(progress_of(["even"], planned=10_000, sampled=9_000))  # the next stage begins anew
    assert row(shown, "graded")[-1] == duration(1000 / 850)


def test_what_has_ended_is_counted_and_what_begins_says_so():
    shown = RunProgress(console(), quiet=False, clock=Clock())
    assert picture(shown) == ["getting ready"]
    shown.begin(progress_of(["a", "b", "c", "d"], planned=10))
    for name in "abc":
        shown.began(name)
    shown.sampled("a", Spent(10, 0, 0))
    shown.ended("a")
    shown.ended("b")
    assert row(shown, "c") == ["0", "10", "starting"]
    assert "1 done, 1 waiting, 1 stopped with samples owed" in picture(shown)


def test_when_all_is_graded_the_report_is_made():
    shown = RunProgress(console(), quiet=False, clock=Clock())
    shown.begin(progress_of(["even"], planned=10, sampled=10))
    assert row(shown, "all") == ["10", "0"]
    assert row(shown, "graded") == ["10", "0", "reporting"]


def test_forty_policies_with_long_names_stay_on_the_screen():
    names = [f"a-policy-whose-name-somebody-made-very-long-indeed@{i:+.2f}" for i in range(40)]
    shown = RunProgress(console(height=24), quiet=False, clock=Clock())
    shown.begin(progress_of(names))
    for name in names[:30]:
        shown.began(name)
        shown.sampled(name, Spent(1, 1, 1))
    shown.graded([Verdict.AC])
    lines = picture(shown)
    assert len(lines) < 24
    assert all(len(line) <= 100 for line in lines)
    assert sum("…" in line and "@+" in line for line in lines) == 17  # what tells them apart is there
    assert "13 more under way, 10 waiting" in lines


@pytest.mark.parametrize(
    ("cap", "bill", "left"),
    [
        (Cap(2000, "tokens"), "spent 1,000 of 2,000 tokens (50%), 100 samples", "0:10"),
        (Cap(400, "seconds"), "spent 300 of 400 seconds (75%), 100 samples, 1,000 tokens", "0:03"),
        (Cap(900, "samples"), "spent 100 of 900 samples (11%), 1,000 tokens", "1:20"),
    ],
)
def test_what_is_spent_of_a_budget_in_its_currency(cap, bill, left):
    clock = Clock()
    shown = RunProgress(console(), quiet=False, clock=clock)
    shown.begin(progress_of(["even"]), cap)
    shown.began("even")
    clock.now += 10
    shown.sampled("even", Spent(100, 1000, 300.0))
    shown.graded([Verdict.AC] * 100)
    assert picture(shown)[-1] == bill
    assert row(shown, "all")[-1] == left


def test_a_plan_that_grows_is_shown_as_it_is():
    shown = RunProgress(console(), quiet=False, clock=Clock())
    shown.begin(progress_of(["even"], planned=10))
    shown.began("even")
    shown.sampled("even", Spent(10, 0, 0))
    shown.ended("even")
    shown.begin(progress_of(["even", "odd"], planned=30, sampled=10))
    shown.began("even")
    assert row(shown, "even")[:2] == ["10", "20"]
    assert row(shown, "all")[:2] == ["20", "40"]


def written(display):
    assert isinstance(display.console.file, io.StringIO)
    return display.console.file.getvalue().splitlines()


def test_a_log_gets_a_line_now_and_then():
    clock = Clock()
    shown = RunProgress(console(is_terminal=False), quiet=False, clock=clock)
    names = [f"p{i}" for i in range(6)]
    with shown:
        shown.begin(progress_of(names, planned=36_000))
        for name in names:
            shown.began(name)
        for _ in range(7200):
            clock.now += 1
            shown.sampled("p0", Spent(2, 20, 0.0))
            shown.graded([Verdict.AC, Verdict.WA])
    lines = written(shown)
    assert lines[0] == (
        "20 sampled and 18 graded (AC 50%  WA 50%) of 216,000; p0 20/36,000 at 2.0/s, 20.0 tokens/s; p1 starting; "
        "p2 starting; p3 starting; 2 more under way; spent 20 of 216,000 samples, 200 tokens; 33:19:50 left"
    )
    assert 20 < len(lines) < 120  # fewer and fewer


@pytest.mark.parametrize("is_terminal", [True, False])
def test_quiet_shows_nothing(is_terminal):
    clock = Clock()
    shown = GradingProgress(console(is_terminal), quiet=True, clock=clock)
    with shown:
        shown.begin(2, 0)
        clock.now += 100
        shown.graded([Verdict.AC])
    assert written(shown) == []


def test_grading_alone():
    clock = Clock()
    for is_terminal in (True, False):
        shown = GradingProgress(console(is_terminal), quiet=False, clock=clock)
        with shown:
            shown.begin(100, 40)
            clock.now += 10
            shown.graded([Verdict.AC, Verdict.AC, Verdict.AC, Verdict.WA] * 5)
        if not is_terminal:
            assert written(shown) == ["60 graded of 100; 2.0/s; AC 75%  WA 25%; 0:20 left"]
    assert [" ".join(re.sub("[━╸╺]", "", line).split()) for line in picture(shown)] == [
        "grading 60 of 100 2.0/s 0:20 left",
        "AC 75% WA 25%",
    ]


def test_the_screen_is_drawn_while_it_changes():
    shown = RunProgress(console(), quiet=False)
    with shown:
        shown.begin(progress_of(["even"]))
        shown.began("even")
        shown.sampled("even", Spent(3, 30, 0.5))
    assert any(line.startswith("even") for line in written(shown))
