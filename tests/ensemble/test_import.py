"""Files into a run: each line into its planned slot, whole files or nothing, and back out as they came."""

import gzip
import json
import re
from pathlib import Path

import pandas as pd
import pytest

from alphamix.ensemble.cli import main
from alphamix.ensemble.interchange import Imported, export, import_samples, import_verdicts
from alphamix.ensemble.interchange.record_files import InterchangeError
from alphamix.ensemble.outcomes.files import read_outcomes
from alphamix.ensemble.store import RUN_SET, STORE_NAME, Graded, Sample, Slot, Store, StoreError
from alphamix.grading.types import Failure, Judgement, Verdict
from alphamix.policies.types import Completion
from alphamix.text_lines import zstd_module

zstd = zstd_module()

ABOUT = {"problems": "hash", "sampling.setting": '"reasoning"', "policies.low": "weights of low", "policies.high": "h"}
SLOTS = [
    Slot(6 * m + 3 * p + index, policy, problem, index, 100 + index)
    for m, policy in enumerate(["low", "high"])
    for p, problem in enumerate(["p/1", "ü"])
    for index in range(3)
]
LINE = {"problem_id": "p/1", "policy": "low", "index": 0}
VERDICT = {**LINE, "verdict": "WA", "tests_passed": 1, "num_tests": 3}


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / STORE_NAME) as store:
        store.plan(SLOTS, ABOUT)
        yield store


def fill(store, text="print('é')"):
    store.add_samples([Sample(slot, Completion(f"{text} {slot.number}", "length", 3, 4, 0.1), 2.5) for slot in SLOTS])
    accepted = Judgement(Verdict.AC, 3, 3, None, 0.01, 1.5, forgeable=True, passed_tests=(True, True, True))
    wrong = Judgement(Verdict.WA, 1, 3, 1, 0.02, 2.5, "answered 'ü'")
    graded = [
        Graded(slot, wrong if slot.index else accepted, Failure.CORRECTNESS if slot.index else None) for slot in SLOTS
    ]
    store.add_verdicts(graded[:7], '{"version": "3", "limits": {"threads": 8}}')
    store.add_verdicts(graded[7:], '{"version": "4"}')


def lines(path, *records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def contents(folder):
    return [(folder / name).read_bytes() for name in ("samples.jsonl", "verdicts.jsonl", "outcomes.csv")]


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_what_is_exported_comes_back_as_it_was(store, tmp_path, form):
    fill(store)
    samples, verdicts, outcomes = export(store, tmp_path / form, form=form).paths
    export(store, tmp_path / "before")
    with Store(tmp_path / "other.sqlite") as other:
        other.plan(SLOTS, ABOUT)
        assert import_samples(other, samples) == Imported(12, 0, 0)
        assert import_verdicts(other, verdicts) == Imported(12, 0, 0)
        assert list(other.samples()) == list(store.samples())
        assert list(other.graded()) == list(store.graded())
        export(other, tmp_path / "after")
        assert contents(tmp_path / "before") == contents(tmp_path / "after")
        assert import_samples(other, samples) == Imported(0, 12, 0)
        assert import_verdicts(other, verdicts) == Imported(0, 12, 0)
    counted = read_outcomes(outcomes)
    assert counted.num_correct_MP.tolist() == [[1, 1], [1, 1]]


def test_half_a_surrogate_pair_is_kept_in_json_lines_and_refused_for_parquet(store, tmp_path):
    fill(store, "\ud800")
    samples, *_ = export(store, tmp_path / "out").paths
    with Store(tmp_path / "other.sqlite") as other:
        other.plan(SLOTS, ABOUT)
        import_samples(other, samples)
        assert list(other.samples()) == list(store.samples())
    with pytest.raises(InterchangeError, match="export with --format jsonl"):
        export(store, tmp_path / "out", form="parquet")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"samples.jsonl", "verdicts.jsonl", "outcomes.csv"}


@pytest.mark.parametrize("pack", [gzip.compress, zstd.compress])
def test_compressed_lines_are_read(store, tmp_path, pack):
    text = "\ufeff" + "".join(json.dumps({**LINE, "index": index, "code": "1"}) + "\n" for index in range(3))
    (tmp_path / "s.jsonl").write_bytes(pack(text.encode()))
    assert import_samples(store, tmp_path / "s.jsonl") == Imported(3, 0, 0)
    (tmp_path / "s.jsonl").write_bytes(pack(text.encode())[:-9])
    with pytest.raises(InterchangeError, match=r"s\.jsonl cannot be read \(its .* content is damaged: "):
        import_samples(store, tmp_path / "s.jsonl")


def test_a_table_of_another_program_needs_only_the_first_keys(store, tmp_path):
    table = pd.DataFrame([{**LINE, "index": index, "completion": f"print({index})"} for index in range(3)])
    table.to_parquet(tmp_path / "theirs.parquet")
    assert import_samples(store, tmp_path / "theirs.parquet") == Imported(3, 0, 0)
    assert store.owed("low") == {3, 4, 5}


def test_what_nobody_knows_stays_unknown(store, tmp_path):
    records = [{**LINE, "index": index, "code": "print(1)"} for index in range(3)]
    records[1] |= {"usage": {"completion_tokens": 7}, "seconds": None}
    import_samples(store, lines(tmp_path / "samples.jsonl", *records))
    import_verdicts(store, lines(tmp_path / "verdicts.jsonl", *({**VERDICT, "index": index} for index in range(3))))
    first, second, _ = store.samples()
    assert first.is_code
    assert first.unknown == {"prompt_tokens", "completion_tokens", "seconds"}
    assert second.completion.completion_tokens == 7
    (row,) = store.tally().to_dict("records")
    assert row["tokens"] == 7
    assert pd.isna(row["seconds"])
    assert [one.failure for one, _ in store.graded()] == [Failure.CORRECTNESS] * 3
    samples, *_ = export(store, tmp_path / "out").paths
    exported = [json.loads(line) for line in samples.read_text().splitlines()]
    assert [record["code"] for record in exported] == ["print(1)"] * 3
    assert "usage" not in exported[0]
    assert exported[1]["usage"] == {"completion_tokens": 7}
    assert not any("seconds" in record for record in exported)


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({**LINE, "index": 3, "completion": ""}, "sample 3 of 'low' at 'p/1' is not in the plan"),
        ({**LINE, "policy": "lower", "completion": ""}, "sample 0 of 'lower' at 'p/1' is not in the plan"),
        ({**LINE, "problem_id": "p/2", "completion": ""}, "is not in the plan"),
        ({**LINE, "index": True, "completion": ""}, "index is true, not a whole number"),
        (LINE, "neither code nor completion is text"),
        ({**LINE, "completion": 3}, "neither code nor completion is text"),
        ({**LINE, "completion": "", "seed": 101}, "its seed is 101, but the plan says 100"),
        ({**LINE, "completion": "", "fingerprint": "x"}, "its fingerprint is 'x', but the plan says 'weights of low'"),
        ({**LINE, "completion": "", "setting": "tool"}, "its setting is 'tool', but the plan says 'reasoning'"),
        ({**LINE, "completion": "", "finish_reason": "eos"}, 'finish_reason is "eos", not stop or length'),
        ({**LINE, "completion": "", "usage": {"completion_tokens": -1}}, "usage.completion_tokens"),
        ({**LINE, "index": 1, "completion": "another"}, "already exists, with another text"),
        ({**LINE, "index": 2**63, "completion": ""}, "is not in the plan"),
        ({**LINE, "index": -1, "completion": ""}, "is not in the plan"),
        ({**LINE, "completion": "", "usage": {"prompt_tokens": 2**63}}, "usage.prompt_tokens"),
        ({**LINE, "completion": "", "seconds": float("nan")}, "seconds: Input should be"),
        ({**LINE, "policy": "\ud800", "completion": ""}, "is not in the plan"),
        ([], "a list, not an object"),
    ],
)
def test_a_sample_that_does_not_fit_is_refused_with_its_line(store, tmp_path, record, reason):
    good = {**LINE, "index": 1, "completion": "good"}
    path = lines(tmp_path / "samples.jsonl", good, record, {**good, "index": 2})
    with pytest.raises(InterchangeError, match=rf"samples.jsonl, line 2: .*{re.escape(reason)}.*\nnothing is imported"):
        import_samples(store, path)
    assert store.owed("low") == set(range(6))


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({**VERDICT, "index": 2}, "has no sample: import that first"),
        ({**VERDICT, "verdict": "GOOD"}, "verdict: Input should be"),
        ({**VERDICT, "tests_passed": 4}, "4 tests passed of 3"),
        ({**VERDICT, "verdict": "AC"}, "AC, but not all tests passed"),
        ({**VERDICT, "num_tests": 0, "tests_passed": 0}, "num_tests"),
        ({**VERDICT, "index": 1, "verdict": "RE"}, "already has the verdict WA, not RE"),
        ({**LINE, "verdict": "WA"}, "tests_passed: Field required"),
        ({**VERDICT, "message": "\ud800"}, "can't encode character"),
        ({**VERDICT, "judge": "[3]"}, "judge is [3], not a JSON object"),
        ({**VERDICT, "judge": "version 3"}, "judge is version 3, not a JSON object"),
    ],
)
def test_a_verdict_that_does_not_fit_is_refused_with_its_line(store, tmp_path, record, reason):
    store.add_samples([Sample(slot, Completion("", "stop", 1, 1, 0.5), 1.0) for slot in SLOTS[:2]])
    path = lines(tmp_path / "verdicts.jsonl", {**VERDICT, "index": 1}, record)
    with pytest.raises(InterchangeError, match=rf"verdicts.jsonl, line 2: .*{re.escape(reason)}"):
        import_verdicts(store, path, "theirs")
    assert [(one.name, one.graded) for one in store.verdict_sets()] == [(RUN_SET, 0)]


def test_torn_lines_and_missing_files_are_named(store, tmp_path):
    path = tmp_path / "samples.jsonl"
    path.write_text(json.dumps({**LINE, "completion": "x"}) + '\n\n{"problem_id": "p/1", "pol')
    with pytest.raises(InterchangeError, match="line 3: not JSON"):
        import_samples(store, path)
    for name in ("nothing.jsonl", "nothing.parquet"):
        with pytest.raises(InterchangeError, match="cannot be read"):
            import_samples(store, tmp_path / name)
    (tmp_path / "torn.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(InterchangeError, match="cannot be read"):
        import_samples(store, tmp_path / "torn.parquet")


def test_verdicts_of_a_failed_judge_stay_owed(store, tmp_path):
    store.add_samples([Sample(SLOTS[0], Completion("", "stop", 1, 1, 0.5), 1.0)])
    path = lines(tmp_path / "verdicts.jsonl", {**VERDICT, "verdict": "IE"})
    assert import_verdicts(store, path) == Imported(0, 0, 1)
    assert store.ungraded_numbers() == [0]


def test_verdicts_of_others_are_a_set_of_their_own(store, tmp_path, capsys):
    fill(store)
    store.close()
    path = lines(tmp_path / "theirs.jsonl", VERDICT, {**VERDICT, "index": 1})
    main(["import", str(tmp_path), "--verdicts", str(path), "--verdict-set", "theirs"])
    assert capsys.readouterr().out == "2 verdicts imported; 0 already existed\n"
    with Store(tmp_path / STORE_NAME, read_only=True) as store:
        assert [(one.name, one.graded, one.is_current) for one in store.verdict_sets()] == [
            (RUN_SET, 12, True),
            ("theirs", 2, False),
        ]
        assert store.tally(verdict_set="theirs")["n"].tolist() == [2]
        with pytest.raises(StoreError, match="no verdicts named 'ours'"):
            store.tally(verdict_set="ours")


def test_a_folder_without_a_run_is_no_place_to_import_to(tmp_path, capsys):
    path = lines(tmp_path / "samples.jsonl", {**LINE, "completion": ""})
    for arguments in (["--samples", str(path)], []):
        with pytest.raises(SystemExit, match="2"):
            main(["import", str(tmp_path), *arguments])
    assert "holds no run" in capsys.readouterr().err
    assert not Path(tmp_path / STORE_NAME).exists()
