"""Every method under the split of unseen users. Oracles: the tables on disk, and properties."""

from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from jobs_here import run_here
from planted_runs import QUIET

from harness.data.dataset import Dataset
from harness.data.filters import PrepareConfig
from harness.data.formats.format import RawInteractions
from harness.data.prepare import load_dataset, load_test, prepare
from harness.data.splits import unseen_users
from harness.experiment.place import Place
from harness.experiment.plan import Settings, make_plan
from harness.experiment.run import CellResult, run_plan
from harness.methods import groups, methods
from harness.testing import planted
from results.store.runs import read_run

NUM_NEW = 3  # of 63 users: 5 %
METHODS = [*groups()["core"], "caser", "bert4rec", "fdsa", "tgh-2"]  # of each kind that reads a history in its own way
ABLATIONS = ("sia", "at", "ete")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The planted walks with three shorter ones before them, whose item `rare` nobody else has."""
    short = [["rare", "i1", "i2", "i3"], ["i4", "rare", "i5", "i6"], ["i7", "i8", "i9", "rare"]]
    walks = [*short, *([f"i{item}" for item in walk] for walk in planted.walks().tolist())]
    rows = [(f"u{user}", item, time) for user, walk in enumerate(walks) for time, item in enumerate(walk)]
    schema = {"user": pl.Categorical, "item": pl.Categorical, "time": pl.Int64}
    texts = {f"i{item}": text for item, text in enumerate(planted.planted_dataset().catalog.texts or (), start=1)}
    root = tmp_path_factory.mktemp("data")
    colours = {"categories": {item: text.split()[:1] for item, text in texts.items() if text}}
    frame = pl.DataFrame(rows, schema=schema, orient="row")
    raw = RawInteractions(frame, {**texts, "rare": "rare bench"}, features=colours)
    prepare(raw, PrepareConfig(), root / "derived", "planted", split=unseen_users.SPLIT)
    return root / "derived"


@pytest.fixture(scope="module")
def results(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[CellResult]:
    root = tmp_path_factory.mktemp("run")
    tables = {name: planted.shortened(method.tiny) for name, method in methods().items()}
    plan = make_plan(
        load_dataset(folder),
        method_names=METHODS,
        ablation_names=ABLATIONS,
        seeds=[0],
        settings=Settings(tables=tables),
    )
    place = Place(dataset=folder, cache=root / "cache", runs=root / "runs")
    return run_plan(plan, place, QUIET, execute=run_here)


def test_every_method_and_ablation_runs_though_an_item_is_unseen(results: list[CellResult]) -> None:
    assert len(results) >= len(METHODS) + len(ABLATIONS)
    assert {result.outcome for result in results} == {results[0].outcome}
    assert results[0].outcome.status == "done"


def test_ranks_are_those_of_all_users_and_their_cases_say_who_is_new(folder: Path, results: list[CellResult]) -> None:
    expected = load_test(folder, load_dataset(folder))
    for result in results:
        run = read_run(result.folder)
        ranks, cases = run.ranks(), run.cases()
        assert ranks["user"].to_list() == list(range(planted.NUM_USERS + NUM_NEW))
        assert ranks["target"].to_list() == expected.targets.tolist()
        assert cases["new_user"].to_list() == [True] * NUM_NEW + [False] * planted.NUM_USERS
        assert cases["history_length"].to_list()[:NUM_NEW] == [3] * NUM_NEW
        rare = cases.filter(pl.col("user") == 2)
        assert rare["target_count"].item() == 0  # `rare` is the third user's target, and in no training sequence


def test_the_runs_lie_under_the_derived_name(results: list[CellResult]) -> None:
    assert {result.folder.parts[-5].rpartition("-")[0] for result in results} == {"planted-unseen-users"}


def test_published_values_are_those_of_the_original_data_set(folder: Path) -> None:
    """The paper's mu of a data set holds under either split."""
    dataset = load_dataset(folder)
    changed = replace(dataset, name="game-unseen-users", original="game")
    plain = replace(dataset, name="game", original=None)
    other = replace(dataset, name="scientific", original=None)

    def mu(dataset: Dataset) -> float:
        settings = Settings(preset="paper")
        plan = make_plan(dataset, method_names=["etegrec"], ablation_names=[], seeds=[0], settings=settings)
        return plan.cells[0].config.mu

    assert mu(changed) == mu(plain) != mu(other)
