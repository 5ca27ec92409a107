"""Oracle: the meaning that the README and the help texts give to ablations, and digests of the version before."""

import re
import tomllib
from dataclasses import replace

import pytest

from harness.cli.methods import described
from harness.config import Config, digest, merged
from harness.errors import DataError, UsageError
from harness.experiment.plan import FULL, Settings, ablations_of, cell_of, differences, make_plan
from harness.methods import methods, proposed_method
from harness.testing import planted


def test_the_ablation_at_brings_its_fine_tuned_variant():
    assert ablations_of("at,sia") == ["etegrec:at", "etegrec:at+finetuning", "etegrec:sia"]
    assert ablations_of("all") == [
        f"etegrec:{name}" for name in ("sia", "psa", "sia+psa", "at", "at+finetuning", "ete")
    ]
    assert ablations_of("none") == []


def test_a_method_may_be_named_before_its_ablation():
    assert proposed_method() == "etegrec"
    assert ablations_of("etegrec:ete,psa") == ["etegrec:ete", "etegrec:psa"]
    assert ablations_of("etegrec:all") == ablations_of("all")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sai", "unknown ablation 'sai'; did you mean 'sia'"),
        ("letter:sia", "method 'letter' has no ablations"),
        ("leter:sia", "unknown method 'leter'; did you mean 'letter'"),
        (",", "an ablation must be named"),
    ],
)
def test_what_is_no_ablation_is_refused(text, message):
    with pytest.raises(UsageError, match=message):
        ablations_of(text)


@pytest.mark.parametrize(
    ("needed", "told"),
    [
        (("features",), "item features .* are needed, and there are none; name a file that has them with --metadata"),
        (("timestamps",), "times are needed, and only the order is known; name their column with --time-col"),
        ((), None),
    ],
)
def test_a_method_that_asks_for_what_the_data_lack_is_left_out_or_refused(monkeypatch, needed, told):
    whole = planted.planted_dataset()
    bare = replace(whole, catalog=replace(whole.catalog, features={}))
    monkeypatch.setitem(methods(), "markov", replace(methods()["markov"], inputs=needed))

    def plan(optional=()):
        names = ["popularity", "markov"]
        return make_plan(
            bare, method_names=names, ablation_names=[], seeds=[0, 1], settings=Settings(), optional=optional
        )

    if told is None:
        assert not plan().left_out
        return
    ((cause, names),) = plan(optional=["markov"]).left_out.items()
    assert re.match(told, cause)
    assert names == ("markov",)
    assert [cell.method for cell in plan(optional=["markov"]).cells] == ["popularity"] * 2
    with pytest.raises(DataError, match=f"'planted' does not allow markov: {told}"):
        plan()


def test_methods_stand_in_the_order_of_the_papers_table():
    order = ["popularity", "markov", "caser", "gru4rec", "hgn", "sasrec", "bert4rec", "fmlp-rec", "fdsa", "s3-rec"]
    order += ["tiger", "tiger-sas", "letter", "etegrec"]
    assert [name for name in methods() if name in order] == [name for name in order if name in methods()]


def test_differences_are_dotted_fields_with_their_new_values():
    lite = methods()["etegrec"].presets["lite"]
    changed = lite.replace(mu=0.5, finetuning=lite.finetuning.replace(epochs=3))
    assert differences(lite, changed) == {"mu": 0.5, "finetuning.epochs": 3}
    assert differences(lite, lite) == {}


@pytest.mark.parametrize(
    ("method", "asked", "followed"),
    [
        ("etegrec", "official", "official"),
        ("etegrec", "paper", "paper"),
        ("etegrec", "original", "default"),
        ("letter", "official", "official"),
        ("letter", "paper", "default"),
        ("sasrec", "official", "default"),
        ("sasrec", "original", "original"),
        ("markov", "official", "default"),
        ("markov", "default", "default"),
    ],
)
def test_the_recipe_of_a_row_is_the_one_that_its_method_has(method, asked, followed):
    cell, default = (
        cell_of(planted.planted_dataset(), method, FULL, 0, Settings(recipe=recipe)) for recipe in (asked, "default")
    )
    assert cell.settings.recipe == followed
    assert (cell.config == default.config) == (followed == "default")
    assert not cell.changes


class Later(Config):
    added_later = frozenset({"new", "path"})
    old: int = 1
    new: str = "off"
    path: str | None = None


def test_a_field_that_came_later_changes_no_digest_at_its_default_and_is_told_when_it_differs():
    assert Later().digest() == digest({"old": 1})
    assert Later(new="on").digest() == digest({"old": 1, "new": "on"})
    assert differences(Later(new="on", path="x"), Later()) == {"new": "off", "path": None}
    assert 'new = "off"' in described(Later(), "later")
    assert merged(Later(new="on"), tomllib.loads(described(Later(), "later"))["later"]) == Later()
