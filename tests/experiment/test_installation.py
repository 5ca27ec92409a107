"""`verify --install`. Oracles: arithmetic by hand, the shipped values, and a wrong learning rate that must be found."""

import json
import math
from pathlib import Path

import pytest
from jobs_here import run_here

from harness.experiment import installation
from harness.experiment.installation import LOSS_TOLERANCE, METRIC_TOLERANCE, compared, measured, shipped_values
from harness.experiment.run import run_plan
from harness.jobs.graph import Observer

SILENT = Observer(started=lambda key: None, message=lambda key, content: None, ended=lambda key, outcome: None)


def test_what_is_counted_must_be_equal_and_what_is_trained_near() -> None:
    shipped = {"a, users": 10.0, "a, last loss": 5.0, "a, NDCG@10": 0.1}

    def agreeing(**changes: float) -> list[bool]:
        found = shipped | {name.replace("_", ", ", 1).replace("_", " "): value for name, value in changes.items()}
        return [one.agrees for one in compared(found, shipped)]

    assert agreeing() == [True, True, True]
    assert agreeing(a_users=11.0) == [False, True, True]
    assert agreeing(a_last_loss=5.0 * (1 + 1.01 * LOSS_TOLERANCE)) == [True, False, True]
    assert agreeing(a_last_loss=5.0 * (1 - 0.99 * LOSS_TOLERANCE)) == [True, True, True]
    near = {"a, users": 10.0, "a, last loss": 5.0, "a, NDCG@10": 0.1 + 1.01 * METRIC_TOLERANCE}
    assert not compared(near, shipped)[2].agrees
    assert not compared({}, shipped)[0].agrees
    assert math.isnan(compared({}, shipped)[0].found)


def test_every_cell_has_shipped_values() -> None:
    shipped = shipped_values()
    for method in installation.CELLS:
        names = {name for name in shipped if name.startswith(f"{method}, ")}
        assert names == {f"{method}, {what}" for what in ("users", "last loss", "parameters", "Recall@10", "NDCG@10")}


def test_sasrec_agrees_here_and_not_with_another_learning_rate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = {name: value for name, value in shipped_values().items() if name.startswith("sasrec")}
    cell = installation.CELLS["sasrec"]
    for place, (changes, agrees) in enumerate([({}, True), ({"learning_rate": 0.0005}, False)]):
        monkeypatch.setattr(installation, "CELLS", {"sasrec": cell | changes})
        found = measured(tmp_path / str(place), 1, lambda plan, place: run_plan(plan, place, SILENT, execute=run_here))
        result = {one.quantity: one.agrees for one in compared(found, own)}
        assert all(result.values()) == agrees, json.dumps(found)
        assert result["sasrec, parameters"]
