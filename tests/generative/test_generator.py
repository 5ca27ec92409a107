"""Training on codes. Oracles: arithmetic by hand, a slow version of the samples, and counting."""

import math
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from harness.data.dataset import Catalog, Dataset, EvalCases, Sequences
from harness.data.samples import PrefixSamples, shuffled_batches
from harness.generative.generator import Batch, prefix_batches, token_loss, token_losses
from harness.nn.code_seq2seq import CodeSeq2Seq
from harness.nn.t5 import T5Config

rows_of_items = st.lists(st.lists(st.integers(1, 9), max_size=7), min_size=1, max_size=8)


def dataset_of(rows: list[list[int]], max_history: int = 50) -> Dataset:
    catalog = Catalog(tuple(map(str, range(1, 10))))
    train = Sequences.from_rows(rows)
    cases = EvalCases(train.last(max_history), np.ones(len(rows), dtype=np.int32))
    return Dataset("rows", "0" * 16, catalog, train, cases, max_history=max_history)


def slow_samples(rows: list[list[int]], max_history: int) -> list[tuple[tuple[int, ...], int]]:
    return [(tuple(row[max(0, t - max_history) : t]), row[t]) for row in rows for t in range(1, len(row))]


def samples_of(batch: Batch) -> list[tuple[tuple[int, ...], int]]:
    histories = [tuple(batch.histories.row(place).tolist()) for place in range(len(batch.histories))]
    return list(zip(histories, batch.targets.tolist(), strict=True))


@pytest.mark.parametrize("temperature", [1.0, 0.5, 2.0])
def test_the_token_loss_is_the_mean_over_samples_and_levels_of_minus_the_log_share(temperature: float) -> None:
    # Two samples, two levels of two codes each; the shares of two codes are a logistic function of their difference.
    logits = torch.tensor([[[1.0, 0.0], [0.0, 2.0]], [[0.0, 3.0], [1.0, 1.0]]])
    codes = torch.tensor([[0, 0], [1, 1]])
    margins = [1.0, 2.0, -3.0, 0.0]  # of the right code over the other one
    expected = sum(math.log(1 + math.exp(-margin / temperature)) for margin in margins) / 4
    assert token_loss(logits, codes, temperature).item() == pytest.approx(expected)


def test_levels_count_alike_whatever_their_number_of_codes() -> None:
    no_codes = torch.tensor([[0.0] * 2 + [-math.inf] * 6, [0.0] * 8])
    logits = torch.zeros(2, 3, 8) + no_codes[:, None]
    expected = (math.log(2) + math.log(8)) / 2
    assert token_loss(logits, torch.zeros(3, 2, dtype=torch.int64)).item() == pytest.approx(expected)


def test_a_temperature_below_one_gives_the_hardest_negative_more_of_the_gradient() -> None:
    shares = {}
    for temperature in (0.5, 1.0):
        scores = torch.tensor([[2.0, 1.5, -1.0, -1.0]], requires_grad=True)
        token_loss(scores[None], torch.tensor([[0]]), temperature).backward()
        assert scores.grad is not None
        pushed = scores.grad[0, 1:]
        shares[temperature] = (pushed[0] / pushed.sum()).item()
    assert shares[0.5] > shares[1.0]


def test_the_parts_of_a_token_loss_add_up_to_it_and_so_do_their_gradients() -> None:
    torch.manual_seed(0)
    config = T5Config(d_model=16, d_ff=32, num_heads=2, d_head=8, encoder_layers=1, decoder_layers=1, dropout=0)
    model = CodeSeq2Seq(config, (5, 4))
    codes = torch.stack([torch.randint(0, 5, (10,)), torch.randint(0, 4, (10,))], dim=1)
    batch = Batch(Sequences.from_rows([[1, 2, 3], [4], [5, 6, 7, 8, 9], [2], [3, 3]]), np.array([4, 5, 1, 9, 2]))
    targets = codes[torch.from_numpy(batch.targets)]
    whole = token_loss(model(batch.histories, targets, codes).logits_LBK, targets)
    parts = list(token_losses(model, batch.histories, torch.from_numpy(batch.targets), codes, max_tokens=4))
    assert len(parts) > 1
    assert sum(part.item() for part in parts) == pytest.approx(whole.item(), abs=1e-6)
    parameters = list(model.parameters())
    expected = torch.autograd.grad(whole, parameters)
    for a, b in zip(torch.autograd.grad(torch.stack(parts).sum(), parameters), expected, strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-4)


@given(rows_of_items, st.integers(1, 5))
def test_prefix_samples_equal_a_loop_over_users_and_positions(rows: list[list[int]], max_history: int) -> None:
    samples = PrefixSamples.of(dataset_of(rows, max_history))
    expected = slow_samples(rows, max_history)
    assert len(samples) == len(expected)
    assert samples.lengths.tolist() == [len(history) for history, _ in expected]
    assert samples_of(Batch(*samples.batch(np.arange(len(samples))))) == expected


@given(rows_of_items, st.randoms(use_true_random=False))
def test_a_batch_holds_the_asked_samples_in_the_asked_order(rows: list[list[int]], random) -> None:
    samples = PrefixSamples.of(dataset_of(rows))
    expected = slow_samples(rows, 50)
    chosen = [random.randrange(len(expected)) for _ in range(6)] if expected else []
    batch = Batch(*samples.batch(np.array(chosen, dtype=np.int64)))
    assert samples_of(batch) == [expected[sample] for sample in chosen]
    assert batch.targets.dtype == np.int64


@given(rows_of_items, st.integers(1, 5), st.integers(0, 3))
def test_an_epoch_holds_every_sample_exactly_once(rows: list[list[int]], batch_size: int, seed: int) -> None:
    samples = PrefixSamples.of(dataset_of(rows))
    batches = [samples_of(batch) for batch in prefix_batches(samples, batch_size, np.random.default_rng(seed))]
    assert Counter(sample for batch in batches for sample in batch) == Counter(slow_samples(rows, 50))
    assert all(len(batch) == batch_size for batch in batches[:-1])
    assert all(1 <= len(batch) <= batch_size for batch in batches)


def test_epochs_of_one_stream_are_shuffled_anew_and_seeds_repeat_them() -> None:
    stream = np.random.default_rng(0)
    first, second = (np.concatenate(list(shuffled_batches(50, 8, stream))).tolist() for _ in range(2))
    again = np.concatenate(list(shuffled_batches(50, 8, np.random.default_rng(0)))).tolist()
    assert first == again
    assert first != second
    assert first != sorted(first)


def test_rows_of_a_batch_are_its_samples_in_that_range() -> None:
    samples = PrefixSamples.of(dataset_of([[1, 2, 3, 4], [5, 6, 7]]))
    batch = Batch(*samples.batch(np.arange(5)))
    assert samples_of(batch.rows(range(1, 4))) == samples_of(batch)[1:4]
