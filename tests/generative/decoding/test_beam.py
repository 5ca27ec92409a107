"""Oracles: transformers' generate, exhaustive scoring under teacher forcing, ranked lists by hand."""

import itertools

import numpy as np
import pytest
import torch
from exhaustive import NUM_ITEMS, SIZES, SMALL, exhaustive_scores, unique_codes
from random_weights import randomised
from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList, PrefixConstrainedLogitsProcessor

from harness.data.dataset import Sequences
from harness.errors import UsageError
from harness.generative.decoding.beam import Beams, Search, beam_search, rank_items, recommend_by_codes
from harness.generative.decoding.trie import Trie
from harness.nn.code_seq2seq import CodeSeq2Seq, EncodedHistories
from harness.nn.ragged import Ragged
from harness.nn.transformers_twin import transformers_twin


@pytest.fixture(scope="module")
def model() -> CodeSeq2Seq:
    return randomised(CodeSeq2Seq(SMALL, SIZES), seed=4).eval()


@pytest.fixture(scope="module")
def codes_NL() -> Tensor:
    return unique_codes(NUM_ITEMS, seed=1)


@pytest.fixture(scope="module")
def trie(codes_NL) -> Trie:
    return Trie.of(codes_NL[1:], SIZES)


@pytest.fixture(scope="module")
def histories() -> Sequences:
    stream = np.random.default_rng(8)
    return Sequences.from_rows([stream.integers(1, NUM_ITEMS + 1, n).tolist() for n in (3, 1, 6, 1, 11, 2)])


@pytest.fixture(scope="module")
def encoded(model, histories, codes_NL) -> EncodedHistories:
    with torch.inference_mode():
        return model.encode(histories, codes_NL)


class LevelSoftmax(LogitsProcessor):
    """Log-probabilities over one vocabulary, taken over the codebook of the level at hand instead."""

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        level = input_ids.shape[1] - 1
        start = level * max(SIZES)  # each level has as many tokens
        out = torch.full_like(scores, -torch.inf)
        out[:, start : start + SIZES[level]] = scores[:, start : start + SIZES[level]].log_softmax(-1)
        return out


@pytest.mark.parametrize("num_beams", [1, 4, 12])
@pytest.mark.parametrize("constrained", [True, False])
def test_beams_and_scores_equal_those_of_transformers_generate(
    model, codes_NL, histories, encoded, trie, num_beams, constrained
):
    offsets = torch.tensor(model.offsets)
    tokens_by_prefix: dict[tuple[int, ...], list[int]] = {}
    for row, depth in itertools.product((codes_NL[1:] + offsets).tolist(), range(len(SIZES))):
        tokens_by_prefix.setdefault(tuple(row[:depth]), []).append(row[depth])
    processors = LogitsProcessorList([LevelSoftmax()])
    if constrained:

        def allowed(_: int, tokens: Tensor) -> list[int]:
            return tokens_by_prefix.get(tuple(tokens[1:].tolist()), [0])

        processors.append(PrefixConstrainedLogitsProcessor(allowed, num_beams))
    items_BS = torch.from_numpy(histories.padded())
    history_tokens = (codes_NL[items_BS] + offsets).flatten(1)
    expected = transformers_twin(model).generate(
        input_ids=history_tokens,
        attention_mask=encoded.padded()[1].long(),
        num_beams=num_beams,
        num_return_sequences=num_beams,
        max_new_tokens=len(SIZES),
        min_new_tokens=len(SIZES),
        do_sample=False,
        length_penalty=0.0,
        logits_processor=processors,
        return_dict_in_generate=True,
        output_scores=True,
    )
    beams = beam_search(model, *encoded.padded(), num_beams=num_beams, trie=trie if constrained else None)
    expected_codes = (expected.sequences[:, 1:] - offsets).view(len(histories), num_beams, -1)
    assert torch.equal(beams.codes_BWL, expected_codes)
    if num_beams > 1:
        expected_scores = expected.sequences_scores.view(len(histories), num_beams)
        torch.testing.assert_close(beams.scores_BW, expected_scores, atol=1e-4, rtol=0)


def test_full_width_search_with_the_trie_is_the_exhaustive_ranking_of_all_items(model, codes_NL, encoded, trie):
    beams = beam_search(model, *encoded.padded(), num_beams=NUM_ITEMS, trie=trie)
    items, scores = rank_items(beams, trie, NUM_ITEMS)
    expected, order = exhaustive_scores(model, encoded, codes_NL[1:]).sort(descending=True)
    assert torch.equal(items, order + 1)
    torch.testing.assert_close(scores, expected, atol=1e-4, rtol=0)


def test_full_width_search_without_trie_is_the_exhaustive_ranking_of_all_sequences(model, encoded):
    everything = torch.cartesian_prod(*(torch.arange(size) for size in SIZES))
    beams = beam_search(model, *encoded.padded(), num_beams=len(everything))
    expected, order = exhaustive_scores(model, encoded, everything).sort(descending=True)
    torch.testing.assert_close(beams.scores_BW, expected, atol=1e-4, rtol=0)
    assert torch.equal(beams.codes_BWL[:, :20], everything[order[:, :20]])
    torch.testing.assert_close(beams.scores_BW.exp().sum(1), torch.ones(len(expected)))


def test_cached_scores_equal_those_of_teacher_forcing_without_cache(model, encoded):
    beams = beam_search(model, *encoded.padded(), num_beams=7)
    for user, states_SD in enumerate(encoded.states_ND.split(encoded.rows.lengths.tolist())):
        alone = EncodedHistories(states_SD, Ragged.of(np.array([len(states_SD)]), states_SD.device))
        expected = exhaustive_scores(model, alone, beams.codes_BWL[user])[0]
        torch.testing.assert_close(beams.scores_BW[user], expected, atol=1e-5, rtol=1e-5)


def test_a_sequence_without_item_keeps_its_rank_as_item_0():
    trie = Trie.of(torch.tensor([[0, 0], [0, 1]]), (2, 2))
    beams = Beams(torch.tensor([[[1, 0], [0, 1], [0, 0]]]), torch.tensor([[-1.0, -2.0, -3.0]]))
    items, scores = rank_items(beams, trie, 3)
    assert items.tolist() == [[0, 2, 1]]
    assert scores.tolist() == [[-1.0, -2.0, -3.0]]


def test_items_with_equal_codes_take_a_rank_each_in_the_order_of_their_ids():
    codes_NL = torch.tensor([[1, 1], [0, 0], [1, 1], [0, 1], [1, 1]])
    trie = Trie.of(codes_NL, (2, 2))
    beams = Beams(
        torch.tensor([[[0, 1], [1, 1], [0, 0]], [[1, 1], [1, 0], [0, 0]]]),
        torch.tensor([[-1.0, -2.0, -3.0], [-1.0, -2.0, -3.0]]),
    )
    items, scores = rank_items(beams, trie, 4)
    assert items.tolist() == [[4, 1, 3, 5], [1, 3, 5, 0]]
    assert scores.tolist() == [[-1.0, -2.0, -2.0, -2.0], [-1.0, -1.0, -1.0, -2.0]]
    items, scores = rank_items(beams, trie, 7)
    assert items.tolist() == [[4, 1, 3, 5, 2, 0, 0], [1, 3, 5, 0, 2, 0, 0]]
    assert scores[:, 5:].tolist() == [[-torch.inf] * 2] * 2


def test_a_trie_narrower_than_the_beam_yields_each_item_once_and_then_none(model, histories):
    codes_NL = unique_codes(3, seed=2)
    trie = Trie.of(codes_NL[1:], SIZES)
    short = Sequences.from_rows([[1, 2], [3]])
    items, scores = recommend_by_codes(model, short, codes_NL, trie, Search(num_beams=20, k=10))
    assert [sorted(row[:3]) for row in items.tolist()] == [[1, 2, 3]] * 2
    assert np.isfinite(scores[:, :3]).all()
    assert (items[:, 3:] == 0).all()
    assert (scores[:, 3:] == -np.inf).all()


@pytest.mark.parametrize("max_tokens", [1, 100, 10_000])
@pytest.mark.parametrize("constrained", [True, False])
def test_chunks_of_any_size_recommend_the_same_in_the_order_of_the_users(
    model, histories, codes_NL, trie, encoded, max_tokens, constrained
):
    items, scores = recommend_by_codes(
        model,
        histories,
        codes_NL,
        trie,
        Search(num_beams=8, k=5, constrained=constrained, max_tokens=max_tokens),
    )
    beams = beam_search(model, *encoded.padded(), num_beams=8, trie=trie if constrained else None)
    expected_items, expected_scores = rank_items(beams, trie, 5)
    np.testing.assert_array_equal(items, expected_items.numpy())
    np.testing.assert_allclose(scores, expected_scores.numpy(), atol=1e-5)
    assert (items == 0).any() != constrained


def test_recommending_uses_no_dropout_and_gives_the_model_back_in_its_mode(model, histories, codes_NL, trie):
    model.train()
    first = recommend_by_codes(model, histories, codes_NL, trie, Search(num_beams=5, k=5))
    second = recommend_by_codes(model, histories, codes_NL, trie, Search(num_beams=5, k=5))
    np.testing.assert_array_equal(first[1], second[1])
    assert model.training
    model.eval()


def test_a_beam_narrower_than_the_list_is_refused_with_rule_value_and_remedy(model, histories, codes_NL, trie):
    with pytest.raises(UsageError) as error:
        recommend_by_codes(model, histories, codes_NL, trie, Search(num_beams=5, k=10))
    assert str(error.value) == "num_beams >= top_k must hold, but got num_beams=5, top_k=10; raise num_beams"
