"""TGH. Oracles: a slow reference in plain Python lists, made from the rules of METHODS B.10; lists by hand; the number
of edges on Beauty."""

import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from baselines.tgh import TGH_1, TGH_2, TGHConfig, TGHRecommender, fit
from baselines.transition_rings import transition_counts
from harness.data.dataset import Catalog, Dataset, EvalCases, Sequences
from harness.data.filters import PrepareConfig
from harness.data.formats.read import read_interactions
from harness.data.prepare import prepare
from harness.data.text.vectors import TextConfig
from harness.interfaces import FitContext

CONTEXT = FitContext(0, Path("unused"))
NUM_ITEMS, NUM_USERS = 60, 40
PUBLISHED = {"tgh-1": (((7, 2, 1),), 1), "tgh-2": (((5, 1), (3, 1)), 2)}


def dataset_of(rows):
    sequences = Sequences.from_rows(rows)
    catalog = Catalog(tuple(str(item) for item in range(1, NUM_ITEMS + 1)))
    return Dataset("made-up", "0", catalog, sequences, EvalCases(sequences, np.ones(len(rows), dtype=np.int32)))


def drawn_rows(seed, users=NUM_USERS):
    """Walks that mostly go a short way ahead, so that rings are of all sizes."""
    stream = np.random.default_rng(seed)
    is_short, size = stream.random((users, 9)) < 0.7, (users, 9)
    steps = np.where(is_short, stream.integers(1, 4, size), stream.integers(0, 60, size))
    return ((stream.integers(0, NUM_ITEMS, (users, 1)) + steps.cumsum(axis=1)) % NUM_ITEMS + 1).tolist()


def recommender(config, rows=None, seed=0):
    vectors = torch.randn(NUM_ITEMS + 1, 8, generator=torch.Generator().manual_seed(seed))
    vectors[0] = 0
    unit = torch.nn.functional.normalize(vectors, dim=1)
    return TGHRecommender(transition_counts(dataset_of(rows or drawn_rows(seed))), unit, config)


def slow_rings(rows, source, depth):
    followers = {}
    for row in rows:
        for before, after in pairwise(row):
            followers.setdefault(before, {})[after] = followers.get(before, {}).get(after, 0) + 1
    seen, last, rings = {source}, {source}, []
    for _ in range(depth):
        last = {after for before in last for after in followers.get(before, {})} - seen
        seen |= last
        rings.append(last)
    return rings, followers.get(source, {})


def slow_source(rows, vectors, source, anchor, budgets, alpha, taken):
    """The places of one source, without padding."""
    rings, counts = slow_rings(rows, source, len(budgets))
    largest = max((math.log1p(count) for count in counts.values()), default=1.0)

    def score(item):
        cosine = sum(float(a) * float(b) for a, b in zip(anchor, vectors[item], strict=True))
        return cosine + alpha * math.log1p(counts.get(item, 0)) / largest

    chosen, surplus = [], []
    for ring, budget in zip(rings, budgets, strict=True):
        own = sorted(ring - taken, key=lambda item: (-score(item), item))
        lent = min(len(surplus), max(0, budget - len(own)))
        chosen += surplus[:lent] + own[:budget]
        surplus = surplus[lent:] + own[budget:]
    return (chosen + surplus)[: sum(budgets)]


@pytest.mark.parametrize("name", PUBLISHED)
@pytest.mark.parametrize(("users", "least", "most"), [(40, 30, 40), (5, 0, 4)])
def test_lists_are_those_of_the_slow_reference(name, users, least, most):
    budgets, sources = PUBLISHED[name]
    method = {"tgh-1": TGH_1, "tgh-2": TGH_2}[name]
    assert method.presets["paper"].budgets == budgets
    rows = drawn_rows(0, users)
    tgh = recommender(method.presets["paper"], rows)
    found = tgh.recommend(Sequences.from_rows(rows), NUM_ITEMS).items
    full = 0
    for row, listed in zip(rows, found.tolist(), strict=True):
        expected = []
        for back in range(sources):
            source = row[-1 - back]
            anchor = tgh.vectors_VD[source]
            expected += slow_source(rows, tgh.vectors_VD, source, anchor, budgets[back], 0.5, set(expected))
        assert listed[: len(expected)] == expected
        assert sorted(listed) == list(range(1, NUM_ITEMS + 1))
        full += len(expected) == 10
    assert least <= full <= most


def test_surplus_of_a_near_ring_stands_in_for_a_far_one_that_is_short():
    # Ring 1 of item 1 is 2 to 10, ring 2 is 11 alone, ring 3 is empty.
    rows = [*([1, item] for item in range(2, 11)), [2, 11], [1, 10]]
    config = TGHConfig(budgets=((7, 2, 1),), cosine=False)
    listed = TGHRecommender(transition_counts(dataset_of(rows)), torch.zeros(NUM_ITEMS + 1, 1), config).recommend(
        Sequences.from_rows([[1]]), 12
    )
    assert listed.items[0, :11].tolist() == [10, 2, 3, 4, 5, 6, 7, 8, 11, 9, *listed.items[0, 10:11]]
    assert (np.diff(listed.scores) < 0).all()


def test_semantic_padding_is_by_cosine_outside_rings_and_history():
    rows = [[1, 2], [5, 6]]
    tgh = recommender(TGHConfig(pad="semantic"), rows)
    listed = tgh.recommend(Sequences.from_rows([[9, 1]]), 10).items[0].tolist()
    cosines = tgh.vectors_VD @ tgh.vectors_VD[1]
    others = sorted(set(range(1, NUM_ITEMS + 1)) - {1, 2, 9}, key=lambda item: -float(cosines[item]))
    assert listed == [2, *others[:9]]


def test_padding_each_source_fills_six_places_before_the_second_source():
    rows = [[1, 2], [3, 4, 1]]
    histories = Sequences.from_rows([[3, 1]])
    plain, padded = (
        recommender(TGH_2.presets["paper"].replace(pad_each_source=each), rows).recommend(histories, 10).items[0]
        for each in (False, True)
    )
    assert plain[:3].tolist() == [2, 4, 1]  # source 1 leads to 2; source 3 to 4, and that to 1
    assert padded[0] == 2
    assert padded[6] == 4


def test_the_mean_of_the_last_items_is_compared_where_more_than_one_counts():
    rows = drawn_rows(3)
    tgh = recommender(TGHConfig(last_n=3), rows)
    found = tgh.recommend(Sequences.from_rows(rows), 10).items
    for row, listed in zip(rows, found.tolist(), strict=True):
        mean = tgh.vectors_VD[row[-3:]].mean(0)
        expected = slow_source(rows, tgh.vectors_VD, row[-1], mean / mean.norm(), (7, 2, 1), 0.5, set())
        assert listed[: len(expected)] == expected


def test_an_empty_history_has_a_list_and_chunks_change_nothing():
    histories = Sequences.from_rows([[], [4], *drawn_rows(4, 5)])
    tgh = recommender(TGH_2.presets["paper"])
    whole, single = (torch.cat([scores for _, scores in tgh.scores(histories, size)]) for size in (10**6, 1))
    assert len(whole) == 7
    assert torch.equal(whole.argsort(1, descending=True), single.argsort(1, descending=True))


def test_the_graph_of_beauty_has_the_published_number_of_edges(real_data, tmp_path):
    dataset = prepare(read_interactions(real_data("beauty2014")), PrepareConfig(), tmp_path / "beauty", "beauty")
    assert transition_counts(dataset).nnz == 114_582


def test_without_texts_the_graph_alone_decides_and_says_so():
    tgh = fit(TGHConfig(text=TextConfig(dim=None)), dataset_of(drawn_rows(0)), {}, CONTEXT)
    assert tgh.health()["text_cosine"] is False
