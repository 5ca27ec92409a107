"""Studies: their names, what their trials count for, and reading them. Oracles: the rules, counted by hand."""

from pathlib import Path

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState
from tiny_sweep import Tiny, choices

from harness.errors import UsageError
from sweeps import trials
from sweeps.samplers import sampler_named
from sweeps.storage import StudyError, StudyStorage, driver_url, quiet, url_without_password
from sweeps.study import join, sweep_of
from sweeps.summaries import importances, load_named, load_studies

SPACE = choices(learning_rate=(1e-2, 3e-3))


def test_a_study_of_before_names_its_split_as_protocol(tiny: Tiny) -> None:
    """Oracle: the fields of `Source`, as an older version stored them."""
    columns = {"user": "u", "item": "i", "time": None}
    stored = {"name": "log.csv", "format": "csv", "metadata": None, "columns": columns, "changes": {"core": 5}}
    found = tiny.planned(SPACE, source={**stored, "protocol": "unseen-users"})[0].data_source()
    assert (found.name, found.split, found.columns.user, found.changes) == ("log.csv", "unseen-users", "u", {"core": 5})


def test_a_name_is_made_of_what_decides_numbers_and_of_nothing_else(tiny: Tiny) -> None:
    sweep = tiny.planned(SPACE)[0]
    assert sweep.name.startswith("sasrec-ring-")
    assert len(sweep.name) == len("sasrec-ring-") + 8
    same = tiny.planned(SPACE, source={"name": "elsewhere"}, preset="paper", recipe="paper", tables={"a": {}})[0]
    assert same.name == sweep.name
    others = [
        tiny.planned(choices(learning_rate=(1e-2,)))[0],
        *(tiny.planned(SPACE, **change)[0] for change in (
            {"seed": 1}, {"sampler": "tpe"}, {"pruner": "median"}, {"precision": "bf16"}, {"fingerprint": "x"},
            {"config": {}}, {"contract": {}}, {"version": 2},
        )),
    ]  # fmt: skip
    names = {other.name for other in others} | {sweep.name}
    assert len(names) == len(others) + 1
    assert tiny.planned(SPACE, curve="mu")[0].name.startswith("sasrec-ring-grid-mu-")


def test_joining_takes_the_same_sweep_and_refuses_another_by_what_differs(tiny: Tiny) -> None:
    sweep = tiny.planned(SPACE)[0]
    join(sweep, "mine", 3, tiny.storage)
    assert sweep_of(join(sweep, "mine", 3, tiny.storage)) == sweep
    assert load_named("mi", tiny.storage).sweep == sweep
    tables = {"sasrec": {**tiny.tables["sasrec"], "epochs": 9}}
    with pytest.raises(UsageError, match=r"study 'mine' was made with config\.epochs=4, not 9; give the command"):
        join(Tiny(tiny.root, tiny.dataset, tables).planned(SPACE)[0], "mine", 3, tiny.storage)
    with pytest.raises(UsageError, match="was made with seed=0, not 1"):
        join(tiny.planned(SPACE, seed=1)[0], "mine", 3, tiny.storage)


def test_a_study_that_was_left_half_made_is_made_whole(tiny: Tiny) -> None:
    """As its maker leaves it when it is killed: one point of the grid queued, nothing recorded."""
    with quiet():
        half = optuna.create_study(storage=tiny.storage.open("mine"), study_name="mine", direction="maximize")
        half.enqueue_trial({"learning_rate": 3e-3})
    assert load_studies(tiny.root / "studies") == []
    study = join(tiny.planned(SPACE, sampler="grid")[0], "mine", 2, tiny.storage, making_seconds=0.3)
    points = [trial.system_attrs["fixed_params"]["learning_rate"] for trial in study.trials]
    assert sorted(points) == [3e-3, 1e-2]


def trial(number: int, state: TrialState, **attributes: object) -> FrozenTrial:
    system = {name: attributes.pop(name) for name in (trials.RETRY_HISTORY, trials.ATTEMPTS) if name in attributes}
    made = optuna.create_trial(
        state=state, value=0.5 if state == TrialState.COMPLETE else None, user_attrs=attributes, system_attrs=system
    )
    made.number = number
    return made


COMPLETE, FAIL, RUNNING, WAITING = TrialState.COMPLETE, TrialState.FAIL, TrialState.RUNNING, TrialState.WAITING


def numbers(found: list[FrozenTrial]) -> list[int]:
    return [trial.number for trial in found]


def test_what_counts_and_what_is_owed_a_retry() -> None:
    found = [
        trial(0, COMPLETE),
        trial(1, FAIL, error="its own"),
        trial(2, FAIL),  # superseded, and retried twice over
        trial(3, FAIL, withdrawn=True),
        trial(4, WAITING, retry_history=[2]),
        trial(5, WAITING, retry_history=[2]),
        trial(6, FAIL, reason=trials.KILLED, attempts=trials.MAX_RETRIES, retry_history=[9]),
        trial(7, FAIL, reason=trials.INTERRUPTED, attempts=trials.MAX_RETRIES, retry_history=[8]),
        trial(10, RUNNING),
    ]
    assert numbers(trials.counting(found)) == [0, 1, 4, 6, 7, 10]
    assert numbers(trials.owed(found)) == [7]
    assert [one.number for one in found if trials.is_ended(one)] == [0, 1, 6]
    assert trials.error_of(found[6]) == "its process was killed, 4 times in a row"
    assert trials.has_place(found, 4, budget=3)
    assert not trials.has_place(found, 6, budget=3)
    assert not trials.has_place(found, 5, budget=99)


def test_a_retry_is_one_that_optuna_knows_and_takes_the_same_values() -> None:
    with quiet():
        study = optuna.create_study()
        first = study.ask()
        value = first.suggest_float("x", 0, 1)
        study.tell(first, state=FAIL)
        trials.retry(study, study.trials[0])
        second = study.ask()
        assert second.suggest_float("x", 0, 1) == value
        study.tell(second, state=FAIL)
        trials.retry(study, study.trials[1])
        third = study.trials[2]
        known = optuna.storages.RetryHeartbeatStaleTrialCallback
        assert known.retried_trial_number(third) == 0
        assert known.retry_history(third) == [0, 1]
    assert trials.attempts(third) == 2
    assert third.params == {"x": value}


def test_a_name_may_be_cut_short_where_it_stays_unique(tiny: Tiny) -> None:
    for name in ("alpha", "alpha-2", "beta"):
        join(tiny.planned(SPACE)[0], name, 1, tiny.storage)
    assert load_named("b", tiny.storage).name == "beta"
    assert load_named("alpha", tiny.storage).name == "alpha"
    with pytest.raises(UsageError, match=r"must mean one study in .*, but matches 2: alpha, alpha-2"):
        load_named("al", tiny.storage)
    with pytest.raises(UsageError, match="did you mean 'beta'"):
        load_named("betta", tiny.storage)
    assert [study.name for study in load_studies(tiny.root / "studies")] == ["alpha", "alpha-2", "beta"]


def test_a_database_holds_studies_too(tiny: Tiny) -> None:
    url = f"sqlite:///{tiny.root}/studies.db"
    join(tiny.planned(SPACE)[0], "mine", 1, StudyStorage(tiny.root, url))
    assert [study.name for study in load_studies(url)] == ["mine"]


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("postgresql://me:secret@127.0.0.1:1/x", "postgresql://me@127.0.0.1:1/x answers: .*refused"),
        ("nonsense://x", "nonsense"),
        ("sqlite:////nowhere/at/all.db", "unable to open database file"),
    ],
)
def test_a_storage_that_cannot_be_reached_is_told_in_one_line(url: str, message: str) -> None:
    with pytest.raises(StudyError, match=message) as told:
        load_studies(url)
    assert "\n" not in str(told.value)
    assert "secret" not in str(told.value)


def test_a_driver_that_is_there_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    installed: set[str] = {"psycopg"}
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name if name in installed else None)
    assert driver_url("postgresql://u@h/d") == "postgresql+psycopg://u@h/d"
    assert driver_url("sqlite:///x.db") == "sqlite:///x.db"
    installed.add("psycopg2")
    assert driver_url("postgresql://u@h/d") == "postgresql://u@h/d"
    installed.clear()
    with pytest.raises(StudyError, match=r"needs a PostgreSQL driver.*pip install 'etegrec-harness\[postgresql\]'"):
        driver_url("postgresql://u@h/d")
    assert url_without_password("postgresql://u:p@h/d") == "postgresql://u@h/d"


def test_importance_goes_to_the_field_that_decides_and_is_not_told_from_too_few(tiny: Tiny) -> None:
    space = choices(learning_rate=(1e-2, 3e-3, 1e-3), dropout=(0.0, 0.1, 0.2))
    study = join(tiny.planned(space)[0], "mine", 20, tiny.storage)
    study.sampler = sampler_named("random", 0)
    with quiet():
        for step in range(18):
            if step == 3:
                assert importances(load_named("mine", tiny.storage)) == {}
            one = study.ask()
            study.tell(one, tiny.planned(space)[0].space.suggest(one)["learning_rate"])
    found = importances(load_named("mine", tiny.storage))
    assert list(found) == ["learning_rate", "dropout"]
    assert found["learning_rate"] > 0.6


def test_a_studys_journal_is_the_only_file_it_leaves(tiny: Tiny, tmp_path: Path) -> None:
    join(tiny.planned(SPACE)[0], "mine", 1, tiny.storage)
    assert [path.name for path in (tmp_path / "studies").iterdir()] == ["mine.journal"]
