"""Oracles: ids and trees worked out by hand, a slow count, scikit-learn's estimator, transformers' T5."""

import os
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from loopback_hub import Hub, serving
from safetensors.torch import save_file
from scipy import sparse
from sklearn.cluster import SpectralClustering

from baselines.p5_ids import (
    CollaborativeIds,
    cluster_paths,
    co_occurrences,
    digit_codes,
    first_appearances,
    path_codes,
)
from harness.data.dataset import Sequences
from harness.errors import DataError
from harness.nn.code_seq2seq import CodeSeq2Seq
from harness.nn.pretrained import load_blocks, weights_file
from harness.nn.t5 import T5Config
from harness.nn.transformers_twin import transformers_twin

SIZES = T5Config(d_model=16, d_ff=24, num_heads=2, d_head=4, encoder_layers=2, decoder_layers=3)


def blocks(sizes: list[int], stream: np.random.Generator) -> sparse.csr_array:
    """Groups of items that occur together often, and with the others now and then."""
    group = np.repeat(np.arange(len(sizes)), sizes)
    counts = np.where(group[:, None] == group, 20, 1) + stream.integers(0, 3, (len(group), len(group)))
    counts = np.triu(counts, 1)
    return sparse.csr_array((counts + counts.T).astype(float))


def test_items_are_numbered_as_they_first_appear_and_the_unseen_last() -> None:
    train = Sequences.from_rows([[5, 2, 5], [1, 2], [4]])
    assert first_appearances(train, 7).tolist() == [2, 1, 4, 3, 0, 5, 6]


def test_digits_have_as_many_levels_as_the_largest_number_needs() -> None:
    assert digit_codes(np.array([1001, 1234, 9999]), 100).tolist() == [[10, 1], [12, 34], [99, 99]]
    assert digit_codes(np.array([0, 10_000]), 100).tolist() == [[0, 0, 0], [1, 0, 0]]


def test_co_occurrences_equal_a_slow_count_of_pairs_of_places() -> None:
    stream = np.random.default_rng(0)
    rows = [stream.integers(1, 8, stream.integers(1, 9)).tolist() for _ in range(20)]
    expected = np.zeros((8, 8))
    for row in rows:
        for one, other in combinations(row, 2):
            if one != other:
                expected[one - 1, other - 1] += 1
                expected[other - 1, one - 1] += 1
    np.testing.assert_array_equal(co_occurrences(Sequences.from_rows(rows), 8).toarray(), expected)


def test_one_split_equals_the_estimator_and_finds_the_blocks() -> None:
    affinity = blocks([12, 15, 18], np.random.default_rng(0))
    paths = cluster_paths(affinity, CollaborativeIds(clusters=3, largest=20))
    labels = SpectralClustering(3, affinity="precomputed", assign_labels="cluster_qr", random_state=0).fit_predict(
        affinity.toarray()
    )
    assert [path[0] for path in paths] == labels.tolist()
    assert {len(path) for path in paths} == {1}
    assert len(set(labels[:12])) == len(set(labels[12:27])) == len(set(labels[27:])) == 1


def test_only_large_groups_are_split_again_and_lonely_items_stand_alone() -> None:
    affinity = blocks([40, 6, 6], np.random.default_rng(0)).tolil()
    affinity[[7]] = 0
    affinity[:, [7]] = 0
    paths = cluster_paths(affinity.tocsr(), CollaborativeIds(clusters=3, largest=10))
    assert paths[7] == (3,)
    assert {len(paths[item]) for item in range(40, 52)} == {1}
    assert min(len(paths[item]) for item in range(40) if item != 7) >= 2
    deepest = cluster_paths(affinity.tocsr(), CollaborativeIds(clusters=3, largest=2, max_depth=2))
    assert max(map(len, deepest)) == 2


def test_a_path_has_a_code_for_each_node_and_leaves_share_theirs() -> None:
    codes, sizes = path_codes([(0, 1), (0, 0), (1,), (0, 1), (1,), (5,)])
    assert codes.tolist() == [[1, 2, 0], [1, 1, 0], [2, 0, 0], [1, 2, 1], [2, 0, 1], [3, 0, 0]]
    assert sizes == (4, 3, 2)


@pytest.fixture
def weights(tmp_path: Path) -> tuple[CodeSeq2Seq, Path]:
    """A generator, and transformers' T5 with its weights as a file."""
    torch.manual_seed(1)
    model = CodeSeq2Seq(SIZES, (5, 5))
    twin = {name: weight.contiguous().clone() for name, weight in transformers_twin(model).state_dict().items()}
    save_file(twin, tmp_path / "model.safetensors")
    return model, tmp_path


def test_blocks_come_from_the_file_and_token_rows_stay(weights: tuple[CodeSeq2Seq, Path]) -> None:
    source, folder = weights
    torch.manual_seed(2)
    model = CodeSeq2Seq(SIZES, (3, 3, 3))
    drawn = model.tokens.weight.clone()
    load_blocks(model, weights_file(str(folder)))
    expected = source.state_dict()
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, drawn if name == "tokens.weight" else expected[name]), name


def test_another_size_is_one_line(weights: tuple[CodeSeq2Seq, Path]) -> None:
    for changes, message in (({"d_ff": 32}, "DenseReluDense"), ({"decoder_layers": 4}, "has no decoder.block.3")):
        with pytest.raises(DataError, match=rf"(?s)model.safetensors must hold a T5 of .*{message}"):
            load_blocks(CodeSeq2Seq(SIZES.replace(**changes), (5, 5)), weights[1] / "model.safetensors")
    with pytest.raises(DataError, match="no revision is given"):
        weights_file("owner/name")


def test_weights_are_downloaded_from_a_pinned_revision(
    weights: tuple[CodeSeq2Seq, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hub is a server on loopback."""
    revision = "0123456789abcdef0123456789abcdef01234567"
    content = (weights[1] / "model.safetensors").read_bytes()
    hub = Hub(f"/owner/name/resolve/{revision}/", {"model.safetensors": content})
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    with serving(hub) as address:
        monkeypatch.setitem(os.environ, "HF_ENDPOINT", address)
        assert weights_file(f"owner/name@{revision}").read_bytes() == content
        with pytest.raises(DataError, match=r"owner/none@main.*cannot be downloaded"):
            weights_file("owner/none@main")
    assert weights_file(f"owner/name@{revision}").read_bytes() == content
