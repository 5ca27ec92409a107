"""SASRec as a registered method. Oracles: METHODS B.1's values, and a round trip through the method interface."""

import numpy as np

from baselines.sasrec import METHOD
from harness.data.dataset import Catalog, Dataset, EvalCases, Sequences
from harness.interfaces import FitContext


def test_the_method_fits_saves_and_loads_by_its_own_interface(tmp_path):
    rows = Sequences.from_rows([[1, 2, 3], [3, 2, 1, 4], [4, 1]])
    cases = EvalCases(rows, np.array([4, 2, 3], dtype=np.int32))
    dataset = Dataset("made-up", "0", Catalog(tuple("abcd")), rows, cases)
    config = METHOD.presets["lite"].replace(epochs=1, hidden_size=8)
    context = FitContext(0, tmp_path / "fit")
    fitted = METHOD.fit(config, dataset, {}, context)
    fitted.save(tmp_path / "saved")
    loaded = METHOD.load(tmp_path / "saved", config, dataset, context)
    assert np.array_equal(fitted.recommend(rows, 4).items, loaded.recommend(rows, 4).items)


def test_the_official_recipe_is_the_papers_own_form_and_the_paper_preset_recboles():
    paper = METHOD.presets["paper"]
    official = METHOD.recipes["official"](paper)
    assert (paper.style, paper.hidden_size, paper.dropout) == ("recbole", 128, 0.5)
    assert (official.style, official.num_heads, official.inner_size, official.beta2, official.batch_size) == (
        "original",
        1,
        128,
        0.98,
        128,
    )


def test_assumptions_name_the_assumed_values():
    (assumption,) = METHOD.assumptions(METHOD.presets["paper"])
    assert "recbole form, 2 layers, 2 heads" in assumption
