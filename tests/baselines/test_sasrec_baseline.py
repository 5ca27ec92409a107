"""SASRec as a registered method. Oracles: METHODS B.1's values, and a round trip through the method interface."""

import numpy as np

from baselines.letter import METHOD as LETTER
from baselines.sasrec import METHOD
from baselines.tiger import TIGER_SAS
from etegrec.method import METHOD as ETEGREC
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


def test_the_original_recipe_is_the_sasrec_papers_own_form_and_all_others_are_recboles():
    """Oracle: METHODS B.1. ETEGRec's paper takes its classical baselines from RecBole, whatever its own recipe."""
    paper = METHOD.presets["paper"]
    assert set(METHOD.recipes) == {"original"}
    original = METHOD.recipes["original"](paper)
    assert (paper.style, paper.hidden_size, paper.dropout) == ("recbole", 128, 0.5)
    assert (original.style, original.num_heads, original.inner_size, original.beta2, original.batch_size) == (
        "original",
        1,
        128,
        0.98,
        128,
    )


def test_assumptions_name_the_assumed_values():
    (assumption,) = METHOD.assumptions(METHOD.presets["paper"])
    assert "recbole form, 2 layers, 2 heads" in assumption


def test_a_stride_is_declared_by_every_method_that_stands_on_sasrec_and_only_where_it_acts():
    strided = METHOD.presets["paper"].replace(stride=25)
    (*_, line) = METHOD.assumptions(strided)
    assert "25 targets share a window (stride)" in line
    for method in (TIGER_SAS, LETTER, ETEGREC):
        config = method.presets["paper"]
        assert line in method.assumptions(config.replace(vectors=config.vectors.replace(stride=25)))
    for silent in (strided.replace(stride=1), strided.replace(batches="prefixes"), strided.replace(style="original")):
        assert not any("stride" in line for line in METHOD.assumptions(silent))
