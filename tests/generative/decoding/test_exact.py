"""Exact decoding. Oracles: exhaustive scoring under teacher forcing, and a beam that is as wide as the search space."""

import numpy as np
import pytest
import torch
from exhaustive import NUM_ITEMS, SIZES, SMALL, exhaustive_scores, unique_codes
from random_weights import randomised

from harness.data.dataset import Catalog, Dataset, EvalCases, Sequences
from harness.evaluation.listing import listing_of, outcomes_of
from harness.generative.decoding.beam import Search, recommend_by_codes
from harness.generative.decoding.exact import Wanted, exact_scores, leaf_scores
from harness.generative.decoding.trie import Trie
from harness.generative.generator import CodeRecommender
from harness.generative.tokenizer.codes import CodeTable
from harness.interfaces import Contract, FitContext
from harness.nn.code_seq2seq import CodeSeq2Seq

KEYS = tuple(map(str, range(NUM_ITEMS)))


@pytest.fixture(scope="module")
def model() -> CodeSeq2Seq:
    return randomised(CodeSeq2Seq(SMALL, SIZES), seed=4).eval()


@pytest.fixture(scope="module")
def codes_NL() -> torch.Tensor:
    """Items 1, 2 and 7 share their codes."""
    codes_NL = unique_codes(NUM_ITEMS, seed=1)
    codes_NL[[2, 7]] = codes_NL[1].clone()
    return codes_NL


@pytest.fixture(scope="module")
def histories() -> Sequences:
    stream = np.random.default_rng(8)
    return Sequences.from_rows([stream.integers(1, NUM_ITEMS + 1, n).tolist() for n in (3, 1, 6, 1, 11, 2)])


@pytest.fixture(scope="module")
def expected(model, histories, codes_NL) -> torch.Tensor:
    with torch.inference_mode():
        return exhaustive_scores(model, model.encode(histories, codes_NL), codes_NL[1:])


def recommender(model, codes_NL, tmp_path, **contract) -> CodeRecommender:
    context = FitContext(seed=0, folder=tmp_path, contract=Contract(**contract))
    table = CodeTable.of(codes_NL[1:], SIZES)
    return CodeRecommender(model, table, context, item_keys=KEYS, has_dedup_level=False)


@pytest.mark.parametrize(("max_rows", "max_tokens"), [(1, 1), (7, 60), (100, 60), (8192, 2048)])
def test_scores_of_all_items_are_those_of_exhaustive_scoring_in_blocks_of_any_size(
    model, histories, codes_NL, expected, max_rows, max_tokens
):
    trie, seen = Trie.of(codes_NL[1:], SIZES), []
    for rows, scores_BN in exact_scores(model, histories, codes_NL, trie, max_rows=max_rows, max_tokens=max_tokens):
        torch.testing.assert_close(scores_BN, expected[rows], rtol=1e-5, atol=1e-5)
        seen += rows.tolist()
    assert sorted(seen) == list(range(len(histories)))


@pytest.mark.parametrize("has_targets", [False, True])
def test_items_below_what_is_wanted_are_left_and_all_others_have_their_scores(
    model, histories, codes_NL, expected, has_targets
):
    trie, places = Trie.of(codes_NL[1:], SIZES), 3
    targets = np.array([4, 9, 30, 2, 60, 5])
    floor_U = expected.topk(places).values[:, -1]
    if has_targets:
        floor_U = floor_U.minimum(expected[torch.arange(len(targets)), torch.from_numpy(targets) - 1])
    wanted = Wanted(places, targets if has_targets else None)
    for rows, scores_BN in exact_scores(model, histories, codes_NL, trie, wanted):
        is_wanted = expected[rows] >= floor_U[rows, None]
        torch.testing.assert_close(scores_BN[is_wanted], expected[rows][is_wanted], rtol=1e-5, atol=1e-5)
        is_left = scores_BN == -np.inf
        assert is_left.any()  # else nothing was saved
        torch.testing.assert_close(scores_BN[~is_left], expected[rows][~is_left], rtol=1e-5, atol=1e-5)


def test_all_items_are_scored_where_a_list_has_room_for_them(model, histories, codes_NL, expected):
    trie = Trie.of(codes_NL[1:], SIZES)
    for rows, scores_BN in exact_scores(model, histories, codes_NL, trie, Wanted(NUM_ITEMS)):
        torch.testing.assert_close(scores_BN, expected[rows], rtol=1e-5, atol=1e-5)


def test_probabilities_of_all_sequences_add_up_to_one(model, histories, codes_NL):
    everything = torch.cartesian_prod(*(torch.arange(size) for size in SIZES))
    with torch.inference_mode():
        states, mask = model.encode(histories, codes_NL).padded()
    sums = leaf_scores(model, states, mask, Trie.of(everything, SIZES), max_rows=50).exp().sum(dim=1)
    torch.testing.assert_close(sums, torch.ones(len(histories)), rtol=1e-5, atol=1e-5)


def test_lists_are_the_true_best_and_equal_codes_go_by_id(model, histories, codes_NL, expected, tmp_path):
    items, scores = recommender(model, codes_NL, tmp_path, decoding="exact").recommend(histories, 20)
    for user, row in enumerate(expected.tolist()):
        groups: dict[tuple, float] = {}
        for item in range(NUM_ITEMS):
            groups.setdefault(tuple(codes_NL[item + 1].tolist()), row[item])
        key = [(-groups[tuple(codes_NL[item].tolist())], item) for item in range(1, NUM_ITEMS + 1)]
        assert items[user].tolist() == [item for _, item in sorted(key)][:20]
        np.testing.assert_allclose(scores[user], [-score for score, _ in sorted(key)][:20], rtol=1e-4)


def test_a_beam_as_wide_as_the_search_finds_the_same_and_a_narrow_one_never_more(model, histories, codes_NL, tmp_path):
    exact = recommender(model, codes_NL, tmp_path, decoding="exact").recommend(histories, 10)
    trie = Trie.of(codes_NL[1:], SIZES)
    items, _ = recommend_by_codes(model, histories, codes_NL, trie, Search(num_beams=NUM_ITEMS, k=10))
    np.testing.assert_array_equal(items, exact.items)
    _, narrow = recommend_by_codes(model, histories, codes_NL, trie, Search(num_beams=10, k=10))
    assert (narrow <= exact.scores + 1e-5).all()
    assert (narrow < exact.scores - 1e-4).any()  # else the test would show nothing


def test_outcomes_of_exact_decoding_hold_every_targets_rank(model, histories, codes_NL, expected, tmp_path):
    targets = np.array([1, 7, 30, 2, 60, 5], dtype=np.int32)
    cases = EvalCases(histories, targets)
    data = Dataset("made-up", "f00d", Catalog(KEYS), histories, cases)
    exact = recommender(model, codes_NL, tmp_path, decoding="exact")
    frame = outcomes_of(exact, data, cases, listing_of(exact, data, cases, 10, 50))
    for row, scores in zip(frame.iter_rows(named=True), expected.tolist(), strict=True):
        target = scores[row["target"] - 1]
        ahead = sum(score > target + 1e-5 for score in scores)
        inside = [1, 2, 7].index(row["target"]) if row["target"] in (1, 2, 7) else 0
        assert row["rank"] == ahead + inside + 1
        assert row["target_sharers"] == (3 if row["target"] in (1, 2, 7) else 1)
        assert row["popular_ahead"] is not None
        if row["rank"] <= 47:  # the whole group is listed
            assert row["code_ahead"] == ahead
