"""Oracles: every row alone for rows run together, sums by hand, and invariance to order."""

import itertools

import numpy as np
import pytest
import torch
from random_weights import randomised
from torch.nn import functional as F

from harness.data.dataset import Sequences
from harness.nn import code_seq2seq
from harness.nn.code_seq2seq import CodeSeq2Seq, GeneratorOutput, Summary, length_groups, token_chunks
from harness.nn.t5 import T5Config

SIZES = (8, 6, 5)
NUM_ITEMS = 40
SMALL = T5Config(
    d_model=16, d_ff=32, num_heads=2, d_head=8, encoder_layers=2, decoder_layers=2, dropout=0, num_buckets=8
)


@pytest.fixture
def codes_NL():
    generator = torch.Generator().manual_seed(5)
    columns = [torch.randint(0, size, (NUM_ITEMS + 1,), generator=generator) for size in SIZES]
    codes = torch.stack(columns, dim=1)
    codes[0] = 0  # padding
    return codes


@pytest.fixture
def histories():
    stream = np.random.default_rng(3)
    rows = [stream.integers(1, NUM_ITEMS + 1, length).tolist() for length in (3, 1, 9, 1, 2, 12, 5, 4, 1, 9)]
    return Sequences.from_rows(rows)


def model_of(seed: int = 0, **changes) -> CodeSeq2Seq:
    return randomised(CodeSeq2Seq(SMALL.replace(**changes), SIZES), seed)


def whole_batch_loss(output: GeneratorOutput, target_codes_BL: torch.Tensor) -> torch.Tensor:
    """Cross-entropy, and a term in which every row of the batch meets every other."""
    token_loss = sum(
        F.cross_entropy(logits_BK, target_codes_BL[:, level]) for level, logits_BK in enumerate(output.logits_LBK)
    )
    similarity_BB = output.summary.pooled_BD @ output.summary.bos_BD.T
    return token_loss + F.cross_entropy(similarity_BB, torch.arange(len(similarity_BB)))


def assert_outputs_close(first: GeneratorOutput, second: GeneratorOutput, atol: float = 1e-5) -> None:
    for a, b in zip((first.logits_LBK, *first.summary), (second.logits_LBK, *second.summary), strict=True):
        torch.testing.assert_close(a, b, atol=atol, rtol=1e-5)


@pytest.mark.parametrize("max_tokens", [1, 20, 45, 10_000])
@pytest.mark.parametrize("training", [True, False])
def test_rows_run_together_have_the_loss_and_every_gradient_of_rows_run_alone(
    codes_NL, histories, max_tokens, training
):
    model = model_of().train(training)
    target_codes_BL = codes_NL[torch.arange(1, 11)]
    rows = [
        model.forward_chunk(histories.take(np.array([row])), target_codes_BL[row, None], codes_NL) for row in range(10)
    ]
    alone = GeneratorOutput(
        torch.cat([row.logits_LBK for row in rows], dim=1),
        Summary(*(torch.cat(part) for part in zip(*(row.summary for row in rows), strict=True))),
    )
    together = model(histories, target_codes_BL, codes_NL, max_tokens=max_tokens)
    assert_outputs_close(together, alone)
    parameters = dict(model.named_parameters())
    expected = torch.autograd.grad(whole_batch_loss(alone, target_codes_BL), parameters.values())
    actual = torch.autograd.grad(whole_batch_loss(together, target_codes_BL), parameters.values())
    for name, a, b in zip(parameters, actual, expected, strict=True):
        assert b.abs().max() > 0, name
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4, msg=lambda text, name=name: f"{name}: {text}")


def test_batch_order_changes_nothing(codes_NL, histories):
    model = model_of().eval()
    target_codes_BL = codes_NL[torch.arange(1, 11)]
    order = np.random.default_rng(0).permutation(10)
    shuffled = model(histories.take(order), target_codes_BL[order], codes_NL, max_tokens=30)
    straight = model(histories, target_codes_BL, codes_NL, max_tokens=30)
    picked = GeneratorOutput(straight.logits_LBK[:, order], Summary(*(part[order] for part in straight.summary)))
    assert_outputs_close(shuffled, picked)


def test_the_summary_alone_is_that_of_the_whole_output(codes_NL, histories):
    model = model_of().eval()
    whole = model(histories, codes_NL[1:11], codes_NL, max_tokens=30).summary
    alone = model.summary(histories, codes_NL, max_tokens=20)
    for a, b in zip(alone, whole, strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)


def test_pooled_state_is_the_mean_over_the_tokens_of_the_history(codes_NL, histories):
    model = model_of().eval()
    output = model(histories, codes_NL[1:11], codes_NL)
    states_BSD, _ = model.encode(histories, codes_NL).padded()
    for row, length in enumerate(histories.lengths):
        torch.testing.assert_close(output.summary.pooled_BD[row], states_BSD[row, : length * 3].mean(0))


def test_logits_of_a_level_depend_on_the_codes_before_it_only(codes_NL, histories):
    model = model_of().eval()
    target_codes_BL = codes_NL[1:11]
    changed_BL = target_codes_BL.clone()
    changed_BL[:, 1] = (changed_BL[:, 1] + 1) % SIZES[1]
    before = model(histories, target_codes_BL, codes_NL).logits_LBK
    after = model(histories, changed_BL, codes_NL).logits_LBK
    assert torch.equal(before[0], after[0])
    assert torch.equal(before[1], after[1])
    assert (before[2] - after[2])[:, : SIZES[2]].abs().amax(1).min() > 1e-4


def test_codes_that_a_level_does_not_have_get_no_probability(codes_NL, histories):
    model = model_of().eval()
    output = model(histories, codes_NL[1:11], codes_NL)
    states_BLD = model.teacher_forced(model.encode(histories, codes_NL), codes_NL[1:11])
    for level, size in enumerate(SIZES):
        logits_BK = model.logits_at(states_BLD[:, level], level)
        torch.testing.assert_close(logits_BK.sort(0).values, output.logits_LBK[level].sort(0).values)
        table_KD = model.tokens.weight[model.offsets[level] :][:size]
        torch.testing.assert_close(logits_BK[:, :size], states_BLD[:, level] @ table_KD.T)
        assert (logits_BK[:, size:] == -torch.inf).all()


def test_the_codes_of_the_padding_row_are_never_read(codes_NL, histories):
    model = model_of().eval()
    other_codes = codes_NL.clone()
    other_codes[0] = -1
    assert_outputs_close(
        model(histories, codes_NL[1:11], other_codes), model(histories, codes_NL[1:11], codes_NL), atol=0
    )


@pytest.mark.parametrize("max_tokens", [1, 7, 16, 1000])
def test_length_groups_hold_every_row_once_within_the_budget(max_tokens):
    lengths = np.random.default_rng(1).integers(1, 12, 100)
    groups = list(length_groups(lengths, max_tokens))
    assert sorted(np.concatenate(groups)) == list(range(100))
    for group in groups:
        assert len(group) == 1 or len(group) * lengths[group].max() <= max_tokens
    assert all(lengths[first].min() >= lengths[second].max() for first, second in itertools.pairwise(groups))


def test_training_mode_drops_and_the_same_seed_gives_the_same_bits(codes_NL, histories):
    model = model_of(dropout=0.2).train()
    outputs = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        outputs.append(model(histories, codes_NL[1:11], codes_NL).logits_LBK[0])
    assert torch.equal(outputs[0], outputs[1])
    assert not torch.allclose(outputs[0], outputs[2])


@pytest.mark.parametrize("max_tokens", [1, 7, 16, 1000])
def test_token_chunks_hold_every_row_once_and_overstep_the_budget_by_less_than_a_row(max_tokens):
    lengths = np.random.default_rng(2).integers(1, 13, 50)
    chunks = list(token_chunks(lengths, max_tokens))
    assert sorted(np.concatenate(chunks).tolist()) == list(range(50))
    for chunk in chunks:
        assert lengths[chunk].sum() < max_tokens + lengths[chunk].max() or len(chunk) == 1
    assert np.concatenate([lengths[chunk] for chunk in chunks]).tolist() == sorted(lengths, reverse=True)


def test_chunks_that_run_again_in_the_backward_pass_have_the_loss_and_gradients_of_those_that_do_not(
    codes_NL, histories, monkeypatch
):
    model = model_of(dropout=0.3).train()
    parameters, target_codes_BL = list(model.parameters()), codes_NL[1:11]
    calls = []
    forward_chunk = CodeSeq2Seq.forward_chunk
    monkeypatch.setattr(CodeSeq2Seq, "forward_chunk", lambda *args: calls.append(1) or forward_chunk(*args))
    results = []
    for limit in (None, 0):
        monkeypatch.setitem(code_seq2seq.GRAPH_BYTES, "cpu", limit)
        calls.clear()
        torch.manual_seed(0)
        loss = whole_batch_loss(model(histories, target_codes_BL, codes_NL, max_tokens=20), target_codes_BL)
        results.append((loss, *torch.autograd.grad(loss, parameters), len(calls)))
    (*straight, once), (*again, twice) = results
    assert twice == 2 * once > 2
    for a, b in zip(straight, again, strict=True):
        assert torch.equal(a, b)  # the same dropout masks too
