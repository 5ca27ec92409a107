"""Oracles: what was written comes back; damage done by hand is named."""

import json
import re
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from made_up_runs import CONTRACT, made_up_cases, made_up_history, made_up_record, write_made_up_run

from results.errors import ResultsError
from results.store.find import RunFilter, find_runs, find_unfinished
from results.store.runs import UserTables, raise_trials, read_run, write_run
from results.store.schema import (
    CASES_SCHEMA,
    HISTORY_SCHEMA,
    METRICS_SCHEMA,
    RANKS_SCHEMA,
    RunRecord,
    cases_frame,
    ranks_frame,
)

RANKS = [1, 0, 3, 10]


def test_a_run_comes_back_as_it_was_written(tmp_path: Path) -> None:
    written = write_made_up_run(tmp_path, RANKS, health={"perplexity": [2.5]}, trials=3)
    run = read_run(written.folder)
    assert run.record == written.record
    assert run.ranks().schema == RANKS_SCHEMA
    assert run.ranks()["rank"].to_list() == RANKS
    assert run.ranks()["top_items"].to_list() == [list(range(1, 11))] * 4
    assert run.history().schema == HISTORY_SCHEMA
    assert run.history().equals(made_up_history())
    assert run.config_text() == "mu = 0.0003\n"
    assert run.environment() == {"torch": "2"}


def test_stored_metrics_by_hand(tmp_path: Path) -> None:
    metrics = write_made_up_run(tmp_path, RANKS).metrics()
    assert metrics.schema == METRICS_SCHEMA
    values = {(row["metric"], row["k"]): row["value"] for row in metrics.iter_rows(named=True)}
    assert values["Recall", 5] == 0.5
    assert values["NDCG", 5] == pytest.approx((1 + 0.5) / 4)
    assert ("Recall", 20) not in values


def test_history_is_long_and_leaves_out_epochs_without_a_score() -> None:
    history = made_up_history(4)
    assert history.filter(history["quantity"] == "score")["epoch"].to_list() == [2, 4]
    assert set(history["quantity"]) == {
        "score", "train_seconds", "score_seconds", "loss/total", "loss/recommendation", "learning_rate/generator",
    }  # fmt: skip


def test_no_temporary_file_is_left_and_done_lists_every_file_with_its_size(tmp_path: Path) -> None:
    folder = write_made_up_run(tmp_path, RANKS).folder
    sizes = {p.name: p.stat().st_size for p in folder.iterdir() if p.name != "DONE"}
    assert json.loads((folder / "DONE").read_text()) == sizes
    assert not [name for name in sizes if name.endswith(".tmp")]


def test_runs_are_found_by_any_part_of_their_place_and_seeds_sort_as_numbers(tmp_path: Path) -> None:
    for seed in (10, 2):
        write_made_up_run(tmp_path, RANKS, seed=seed)
    write_made_up_run(tmp_path, RANKS, method="letter", contract_digest="ffff", preset="lite")
    write_made_up_run(tmp_path, RANKS, dataset="game", variant="wo-sia", config_digest="beef")
    assert [run.record.seed for run in find_runs(tmp_path, RunFilter(dataset="demo", method="tiger"))] == [2, 10]
    assert len(find_runs(tmp_path)) == 4
    assert [r.record.dataset for r in find_runs(tmp_path, RunFilter(variant="wo-sia", config="be"))] == ["game"]
    assert len(find_runs(tmp_path, RunFilter(contract="ff"))) == len(find_runs(tmp_path, RunFilter(preset="lite"))) == 1
    assert [r.record.seed for r in find_runs(tmp_path, RunFilter(seed=10))] == [10]
    assert find_runs(tmp_path / "nowhere") == []


def test_a_run_without_done_is_listed_as_unfinished_only(tmp_path: Path) -> None:
    folder = write_made_up_run(tmp_path, RANKS, seed=4).folder
    (folder / "DONE").unlink()
    assert find_runs(tmp_path) == []
    (unfinished,) = find_unfinished(tmp_path)
    assert (unfinished.dataset, unfinished.method, unfinished.seed) == ("demo", "tiger", 4)
    with pytest.raises(ResultsError, match="not a finished run"):
        read_run(folder)


@pytest.mark.parametrize("name", ["ranks.parquet", "metrics.parquet", "history.parquet", "run.json", "config.toml"])
def test_a_file_cut_short_is_named_in_one_line(tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture) -> None:
    path = write_made_up_run(tmp_path, RANKS).folder / name
    path.write_bytes(path.read_bytes()[:-5])
    whole = write_made_up_run(tmp_path, RANKS, seed=1)
    for _ in range(2):
        assert [run.folder for run in find_runs(tmp_path)] == [whole.folder]
    (told,) = caplog.messages
    assert re.search(f"{name} has .* bytes instead of", told)
    assert "\n" not in told


def test_a_file_damaged_or_lost_after_the_run_was_opened_is_named_in_one_line(tmp_path: Path) -> None:
    run = write_made_up_run(tmp_path, RANKS)
    for damage in (lambda path: path.write_bytes(b"x" * 40), lambda path: path.unlink()):
        damage(run.folder / "ranks.parquet")
        with pytest.raises(ResultsError, match=r"ranks\.parquet must") as caught:
            run.ranks()
        assert "\n" not in str(caught.value)


def test_a_done_cut_short_is_named_with_its_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    done = write_made_up_run(tmp_path, RANKS).folder / "DONE"
    done.write_text(done.read_text()[:30])
    assert find_runs(tmp_path) == []
    assert re.search(r"DONE:\d+: must be whole JSON", caplog.text)


@pytest.mark.parametrize("name", ["DONE", "run.json"])
def test_a_file_of_another_kind_leaves_its_run_out_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    whole, other = (write_made_up_run(tmp_path, RANKS, seed=seed).folder / name for seed in (0, 1))
    other.write_text("[1]".ljust(other.stat().st_size))
    assert [run.folder for run in find_runs(tmp_path)] == [whole.parent]
    assert f"{name}: must hold a JSON object, but holds a list; delete the run's folder" in caplog.text
    other.unlink()
    other.mkdir()
    assert [run.folder for run in find_runs(tmp_path)] == [whole.parent]


def test_a_file_that_may_not_be_read_is_told_without_the_advice_to_delete_its_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise PermissionError(13, "Permission denied")

    run = write_made_up_run(tmp_path, RANKS)
    monkeypatch.setattr(pl, "read_parquet", refuse)
    with pytest.raises(ResultsError, match=r"ranks\.parquet must be readable, .* not read it; change its permissions$"):
        run.ranks()
    monkeypatch.setattr(Path, "read_text", refuse)
    assert find_runs(tmp_path) == []
    assert "DONE must be readable, but you may not read it; change its permissions" in caplog.text


@pytest.mark.parametrize(("name", "value"), [("seed", {}), ("seconds", [1]), ("title", 3), ("peak_memory_mb", "much")])
def test_a_record_with_a_value_of_another_type_names_it(name: str, value: object) -> None:
    content = asdict(made_up_record()) | {"peak_memory_mb": 7}  # a whole number is one of megabytes too
    assert RunRecord.from_json(content).peak_memory_mb == 7
    with pytest.raises(ResultsError, match=f"'{name}' of a run record must be .*, but it is"):
        RunRecord.from_json(content | {name: value})


def test_a_record_with_other_fields_names_them() -> None:
    content = asdict(made_up_record()) | {"colour": "red"}
    del content["seed"]
    with pytest.raises(ResultsError, match="lacks seed and also has colour"):
        RunRecord.from_json(content)


def test_an_interrupted_rewrite_leaves_no_done(tmp_path: Path) -> None:
    run = write_made_up_run(tmp_path, RANKS)
    with pytest.raises(ResultsError, match="history must hold the columns"):
        write_run(
            run.folder,
            run.record,
            UserTables(ranks=run.ranks(), cases=run.cases()),
            history=run.ranks(),
            config_toml="",
            env={},
        )
    assert find_runs(tmp_path) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rank": [1, 11]}, "rank=11, top_k=10"),
        ({"top_items": [[1], [2]]}, r"lists of \[1\]"),
        ({"user": [3, 3]}, "each user once"),
        ({"rank": [1, -1]}, "fit its column types"),
    ],
)
def test_ranks_that_break_a_rule_are_refused(tmp_path: Path, change: dict[str, list], message: str) -> None:

    ranks = ranks_frame(np.array([1, 2]), np.array([1, 1]), np.tile(np.arange(1, 11), (2, 1)), np.array([0, 0]))
    ranks = ranks.with_columns([pl.Series(name, values) for name, values in change.items()])
    with pytest.raises(ResultsError, match=message):
        write_run(
            tmp_path,
            made_up_record(contract=CONTRACT),
            UserTables(ranks=ranks, cases=made_up_cases(2)),
            history=made_up_history(),
            config_toml="",
            env={},
        )


def test_cases_come_back_as_written_and_say_nothing_of_codes_where_there_are_none(tmp_path: Path) -> None:
    cases = cases_frame([2, 9], [0, 4], None, [True, False])
    run = write_made_up_run(tmp_path, [1, 0], cases)
    assert run.cases().schema == CASES_SCHEMA
    assert run.cases().rows() == [(0, 2, 0, None, True, 0), (1, 9, 4, None, False, 1)]
    assert cases_frame([2], [0], np.array([3]))["target_sharers"].to_list() == [3]
    assert cases_frame([2], [0])["new_user"].to_list() == [False]


def test_cases_of_other_users_than_the_ranks_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="the users of the ranks, but 3 and 2"):
        write_made_up_run(tmp_path, [1, 0], made_up_cases(3))


def test_a_run_from_before_cases_were_kept_is_readable_and_says_how_to_get_them(tmp_path: Path) -> None:
    folder = write_made_up_run(tmp_path, RANKS).folder
    (folder / "cases.parquet").unlink()
    done = json.loads((folder / "DONE").read_text())
    (folder / "DONE").write_text(json.dumps({name: size for name, size in done.items() if name != "cases.parquet"}))
    run = read_run(folder)
    assert run.metrics().height > 0
    with pytest.raises(ResultsError, match=r"has no cases\.parquet.*give its 'harness run' command again"):
        run.cases()


def test_trials_that_preceded_a_run_are_raised_in_its_record_alone(tmp_path: Path) -> None:
    run = write_made_up_run(tmp_path, RANKS)
    before = {path.name: path.read_bytes() for path in run.folder.iterdir()}
    assert raise_trials(run.folder, 7).record.trials == 7
    assert raise_trials(run.folder, 3).record.trials == 7
    assert read_run(run.folder).record == replace(run.record, trials=7)
    changed = {name for name, content in before.items() if (run.folder / name).read_bytes() != content}
    assert changed <= {"run.json", "DONE"}
