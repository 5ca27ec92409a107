"""Zero-collision reassignment. Oracles: all ways to give a group's items different codes, and cases by hand."""

import itertools
import logging

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.artifacts import LITE_TOKENIZER
from harness.generative.tokenizer.codes import code_health
from harness.generative.tokenizer.reassign import reassign, semantic_codes, without_collisions
from harness.generative.tokenizer.rqvae import RQVAE, RQVAEConfig

K = 4


def random_case(seed: int, num_items: int = 14) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes of 3 levels, of which the first two make groups of up to K items, and distances that include ties."""
    stream = np.random.default_rng(seed)
    prefixes = stream.permutation(np.repeat(np.arange(6), K))[:num_items]
    codes = np.stack([prefixes // 2, prefixes % 2, stream.integers(0, K, num_items)], axis=1)
    return torch.from_numpy(codes), torch.from_numpy(stream.integers(0, 5, (num_items, K)).astype(float))


def groups_of(codes):
    found: dict[tuple, list[int]] = {}
    for item, row in enumerate(codes.tolist()):
        found.setdefault(tuple(row[:-1]), []).append(item)
    return found.values()


@settings(max_examples=40)
@given(st.integers(0, 10_000))
def test_no_way_moves_fewer_items_or_the_same_over_less_distance(seed):
    codes, distances = random_case(seed)
    found = reassign(codes, distances)
    assert torch.equal(found.codes_NL[:, :-1], codes[:, :-1])
    assert len(set(map(tuple, found.codes_NL.tolist()))) == len(codes)
    for members in groups_of(codes):
        old = codes[members, -1].tolist()
        if len(set(old)) == len(old):
            assert found.codes_NL[members, -1].tolist() == old
            continue
        costs = []
        for chosen in itertools.permutations(range(K), len(members)):
            changes = sum(a != b for a, b in zip(chosen, old, strict=True))
            total = sum(float(distances[item, code]) for item, code in zip(members, chosen, strict=True))
            costs.append((changes, total))
        chosen = found.codes_NL[members, -1].tolist()
        changes = sum(a != b for a, b in zip(chosen, old, strict=True))
        total = sum(float(distances[item, code]) for item, code in zip(members, chosen, strict=True))
        assert (changes, total) == min(costs)


@settings(max_examples=40)
@given(st.integers(0, 10_000))
def test_the_greedy_way_is_that_of_a_loop(seed):
    codes, distances = random_case(seed)
    found = reassign(codes, distances, "greedy").codes_NL
    assert len(set(map(tuple, found.tolist()))) == len(codes)
    for members in groups_of(codes):
        old = {item: int(codes[item, -1]) for item in members}
        expected, taken = dict(old), set(old.values())
        by_distance = sorted(members, key=lambda item: (float(distances[item, old[item]]), item))
        kept = {}
        for item in by_distance:
            kept.setdefault(old[item], item)
        for item in by_distance:
            if kept[old[item]] != item:
                free = [code for code in range(K) if code not in taken]
                expected[item] = min(free, key=lambda code: (float(distances[item, code]), code))
                taken.add(expected[item])
        assert found[members, -1].tolist() == [expected[item] for item in members]


def test_groups_of_three_one_and_two_items_by_hand():
    """The items nearest to code 0 keep it; of the first group the others go to codes 1 and 2, the nearest free."""
    codes = torch.tensor([[0, 0], [0, 0], [0, 0], [1, 0], [2, 3], [2, 3]])
    distances = torch.tensor(
        [[1.0, 2, 9, 9], [1, 9, 3, 9], [0, 9, 9, 9], [0, 0, 0, 0], [9, 9, 4, 1], [9, 2, 9, 1]], dtype=torch.float64
    )
    found = reassign(codes, distances)
    assert found.codes_NL[:, 1].tolist() == [1, 2, 0, 0, 3, 1]
    assert (found.moved, found.left) == (3, 0)
    assert found.added_distance == pytest.approx(((2 - 1) + (3 - 1) + (2 - 1)) / 3)


def test_a_group_of_more_items_than_codes_stays_and_is_told(caplog):
    codes = torch.tensor([[0, 0]] * 5 + [[1, 2]] * 2)
    found = reassign(codes, torch.rand(7, K, dtype=torch.float64))
    assert torch.equal(found.codes_NL[:5], codes[:5])
    assert found.left == 5
    assert len(set(found.codes_NL[5:, 1].tolist())) == 2
    with caplog.at_level(logging.WARNING):
        without_collisions(codes, torch.rand(7, K), "assigned")
    assert "5 items stay with shared codes" in caplog.text


def test_a_tokenizers_codes_become_unique_by_its_own_distances_and_off_changes_nothing():
    rqvae = RQVAE(6, RQVAEConfig(hidden_sizes=(8,), code_dim=4, codebook_size=32, num_levels=3))
    generator = torch.Generator().manual_seed(0)
    torch.nn.init.normal_(rqvae.codebooks_LKD, generator=generator)
    vectors = torch.randn(30, 6, generator=generator)
    vectors[1:5] = vectors[0]
    plain = semantic_codes(rqvae, vectors)
    assert torch.equal(plain, rqvae.codes(vectors))
    assert code_health(plain, 32)["colliding_items"] >= 5 / 30
    for method in ("assigned", "greedy"):
        unique = semantic_codes(rqvae, vectors, method)
        assert code_health(unique, 32)["colliding_items"] == 0
        assert torch.equal(unique[:, :-1], plain[:, :-1])


def test_the_option_left_off_keeps_the_digest_of_a_tokenizer():
    assert "zero_collisions" not in LITE_TOKENIZER.model_dump()
    assert LITE_TOKENIZER.replace(zero_collisions="assigned").digest() != LITE_TOKENIZER.digest()
