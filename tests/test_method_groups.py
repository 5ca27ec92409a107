"""Groups of methods, and how long each takes. Oracles: the issue's list of the default run; arithmetic by hand."""

from dataclasses import replace

import pytest

import harness.methods
from harness.config import Config
from harness.errors import UsageError
from harness.interfaces import ArtifactKind, Method, Need
from harness.methods import groups, methods, total_effort


def test_a_default_run_is_of_these_methods():
    assert groups()["core"] == ["popularity", "markov", "sasrec", "tiger", "tiger-sas", "letter", "etegrec"]


def test_every_trained_method_of_the_papers_table_is_in_its_group_and_generative_ones_in_theirs():
    found = groups()
    assert found["all"] == list(methods())
    assert {"gru4rec", "bert4rec", "fmlp-rec", *found["core"]} - {"popularity", "markov"} <= set(found["paper"])
    assert set(found["generative"]) == {name for name, method in methods().items() if method.family == "generative"}


def test_a_method_joins_a_group_by_its_own_field(monkeypatch):
    mine = replace(methods()["popularity"], name="mine", groups=("core", "new"))
    monkeypatch.setattr(harness.methods, "methods", lambda: {"mine": mine})
    assert groups() == {"all": ["mine"], "core": ["mine"], "new": ["mine"]}
    mine = replace(mine, groups=("mine",))
    with pytest.raises(UsageError, match="a group 'mine', which is a method"):
        groups()


def test_effort_counts_each_stage_below_a_fit_once():
    shared = Need(ArtifactKind("shared", print, effort=lambda config: 3.0), Config())
    upper = Need(ArtifactKind("upper", print, effort=lambda config: 2.0), Config(), {"shared": shared})
    method = Method(
        "mine", "Mine", Config, print, print, needs=lambda config: {"a": shared, "b": upper}, effort=lambda config: 10.0
    )
    registered = {"mine": method}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(harness.methods, "methods", lambda: registered)
        assert total_effort(method, Config()) == 15.0
