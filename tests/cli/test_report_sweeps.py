"""The report's section on studies. Oracles: trials made by hand, the studies' own frame."""

import csv
import io
import re
from base64 import b64decode

import optuna
import pytest
from optuna.trial import TrialState, create_trial

from harness.cli.report_sweeps import sweeps_section
from harness.interfaces import Contract
from harness.methods import method_named
from results.report import Page
from sweeps.spaces import spaces_from_tables
from sweeps.storage import quiet
from sweeps.study import Sweep
from sweeps.summaries import StudySummary
from sweeps.trials import COST, RECALL

SPACE = {"distance_decay": [0.5, 0.8, 0.9]}


@pytest.fixture
def study():
    """Three trials of Markov: one was cut off, and of two complete ones the second is better."""
    made = Sweep(
        method="markov",
        version=1,
        dataset="demo",
        fingerprint="f00d",
        source={},
        preset="lite",
        recipe="default",
        tables={},
        text=None,
        config=method_named("markov").presets["lite"].model_dump(mode="json"),
        contract=Contract().model_dump(mode="json"),
        precision="fp32",
        seed=0,
        space=spaces_from_tables({"markov": SPACE})["markov"],
        sampler="random",
        pruner="none",
    )
    with quiet():
        stored = optuna.create_study(study_name="<markov>", direction="maximize")
        for value, decay in ((0.25, 0.5), (0.5, 0.9), (None, 0.8)):
            stored.add_trial(
                create_trial(
                    state=TrialState.FAIL if value is None else TrialState.COMPLETE,
                    value=value,
                    params={"distance_decay": decay},
                    distributions={"distance_decay": optuna.distributions.CategoricalDistribution((0.5, 0.8, 0.9))},
                    user_attrs={COST: {"epochs": 2, "seconds": 30.0, "peak_memory_mb": 100.0}, RECALL: value},
                )
            )
    return StudySummary("<markov>", made, 3, tuple(stored.get_trials()), stored)


def test_a_study_shows_its_cost_its_best_config_and_every_trial(study):
    page = Page("t", "s", (sweeps_section([study]),)).html()
    facts = dict(re.findall(r"<dt>([^<]*)</dt><dd>([^<]*)</dd>", page))
    assert facts == {
        "best trial": "1",
        "NDCG@10, validation": "0.5000",
        "Recall@10, validation": "0.5000",
        "distance_decay": "0.9",
    }
    assert '<td class="number" data-value="90.0">1 min 30 s</td>' in page  # three trials of 30 s
    links = {name: b64decode(uri.partition(",")[2]).decode() for uri, name in
             re.findall(r'href="(data:[^"]*)" download="([^"]*)"', page)}  # fmt: skip
    trials = list(csv.DictReader(io.StringIO(links["trials-markov.csv"])))
    assert [(one["state"], one["value"]) for one in trials] == [
        ("complete", "0.25"),
        ("complete", "0.5"),
        ("superseded", ""),
    ]
    assert "figure-sweep-markov.csv" in links
    assert "&lt;markov&gt;" in page
    assert "<markov>" not in page


def test_there_is_no_section_without_studies():
    assert sweeps_section([]) is None
