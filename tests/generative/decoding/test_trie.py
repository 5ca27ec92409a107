"""Oracle: Python sets and dictionaries of code prefixes."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.generative.decoding.trie import Trie

SIZES = (4, 3, 5)


@st.composite
def code_tables(draw):
    """(N, L) codes with shared prefixes and with items that share all codes."""
    rows = draw(st.lists(st.tuples(*(st.integers(0, size - 1) for size in SIZES)), min_size=1, max_size=30))
    return torch.tensor(rows)


def walk(trie: Trie, prefix: tuple[int, ...]) -> torch.Tensor:
    node = torch.tensor([0])
    for depth, code in enumerate(prefix):
        node = trie.advance(depth, node, torch.tensor([code]))
    return node


@settings(max_examples=60)
@given(code_tables())
def test_continuations_are_the_codes_that_some_item_has_after_the_prefix(codes_NL):
    trie = Trie.of(codes_NL, SIZES)
    rows = [tuple(row) for row in codes_NL.tolist()]
    for depth in range(len(SIZES)):
        most = 0
        for prefix in {row[:depth] for row in rows}:
            expected = sorted({row[depth] for row in rows if row[:depth] == prefix})
            codes_C, nodes_C = (found[0] for found in trie.continuations(depth, walk(trie, prefix)))
            exists_C = nodes_C >= 0
            assert codes_C[exists_C].tolist() == expected
            assert nodes_C[exists_C].tolist() == [walk(trie, (*prefix, code)).item() for code in expected]
            assert not codes_C[~exists_C].any()
            most = max(most, len(expected))
        assert len(codes_C) == most


@settings(max_examples=60)
@given(code_tables())
def test_lookup_finds_exactly_the_items_of_every_possible_sequence(codes_NL):
    trie = Trie.of(codes_NL, SIZES)
    everything = torch.cartesian_prod(*(torch.arange(size) for size in SIZES))
    groups: dict[tuple[int, ...], list[int]] = {}
    for item, row in enumerate(codes_NL.tolist(), start=1):
        groups.setdefault(tuple(row), []).append(item)
    leaves = trie.lookup(everything)
    for sequence, leaf, size in zip(everything.tolist(), leaves, trie.group_sizes(leaves), strict=True):
        expected = groups.get(tuple(sequence), [])
        assert size == len(expected)
        assert (leaf == -1) == (not expected)
        if expected:
            assert trie.items_N[trie.first_item[leaf] : trie.first_item[leaf + 1]].tolist() == expected


def test_nothing_may_follow_a_prefix_that_no_item_has():
    trie = Trie.of(torch.tensor([[0, 0, 0], [1, 2, 3]]), SIZES)
    assert walk(trie, (2,)).tolist() == [-1]
    assert walk(trie, (0, 2)).tolist() == [-1]
    codes, nodes = trie.continuations(1, torch.tensor([[-1, -1]]))
    assert not codes.any()
    assert (nodes == -1).all()
    assert trie.advance(1, torch.tensor([-1]), torch.tensor([2])).tolist() == [-1]


def test_nodes_of_any_shape_are_answered_in_that_shape():
    trie = Trie.of(torch.tensor([[0, 0, 0], [1, 2, 3]]), SIZES)
    nodes = torch.tensor([[0, 1, -1], [1, 1, 0]])
    codes, found = trie.continuations(1, nodes)
    assert codes.tolist() == [[[0], [2], [0]], [[2], [2], [0]]]
    assert found.tolist() == [[[0], [1], [-1]], [[1], [1], [0]]]


def test_codes_outside_the_codebook_are_refused():
    with pytest.raises(AssertionError, match="code 5 of a codebook of 5"):
        Trie.of(torch.tensor([[0, 0, 5]]), SIZES)


@pytest.mark.slow
def test_a_million_items_take_less_than_a_tenth_of_a_gigabyte():
    codes_NL = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (1_000_000, 4)))
    trie = Trie.of(codes_NL, (256,) * 4)
    tensors = [trie.items_N, trie.first_item]
    tensors += [tensor for level in trie.levels for tensor in (level.keys_M, level.first_child)]
    assert sum(tensor.nbytes for tensor in tensors) < 1e8
    sample = torch.arange(0, 1_000_000, 997)
    leaves = trie.lookup(codes_NL[sample])
    assert torch.equal(codes_NL[trie.items_N[trie.first_item[leaves]] - 1], codes_NL[sample])
