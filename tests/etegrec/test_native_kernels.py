"""The layout of a GPU, padded buckets and torch's own kernels, on a CPU. Oracle: the CPU's ragged layout, in fp32."""

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_etegrec import NUM_ITEMS, TINY, one_batch, tiny_dataset, tiny_training, watch

from etegrec.method import paper_recipe
from etegrec.training import ETEGRecTraining
from harness.data.dataset import Sequences
from harness.generative.decoding.beam import Search, recommend_by_codes
from harness.generative.generator import Batch, token_losses
from harness.nn.kernels.switch import native_kernels

WITHOUT_DROPOUT = TINY.replace(generator=TINY.generator.replace(dropout=0.0, encoder_layers=2, decoder_layers=2))
CONFIGS = {
    "default": WITHOUT_DROPOUT,
    "chunks": WITHOUT_DROPOUT.replace(chunk_size=24),
    "paper": paper_recipe(WITHOUT_DROPOUT),
}


def long_histories(count: int) -> Batch:
    """Random histories of 1 to 30 items, short ones more often, and targets of which some occur twice."""
    stream = np.random.default_rng(7)
    lengths = np.minimum(stream.geometric(0.2, count), 30)
    rows = [stream.integers(1, NUM_ITEMS + 1, length).tolist() for length in lengths]
    return Batch(Sequences.from_rows(rows), stream.integers(1, NUM_ITEMS + 1, count))


def gradients(training: ETEGRecTraining) -> dict[str, torch.Tensor]:
    """Of all parameters that have one, as one epoch's step would find them."""
    return {name: x.grad.clone() for name, x in training.model.named_parameters() if x.grad is not None}


@pytest.mark.parametrize("phase", ["recommender", "tokenizer", "joint"])
@pytest.mark.parametrize("name", CONFIGS)
def test_losses_and_gradients_are_those_of_the_ragged_layout(tmp_path: Path, name: str, phase: str) -> None:
    found = []
    for kernels in (nullcontext, native_kernels):
        with kernels():
            training = tiny_training(tmp_path, CONFIGS[name])
            training.thaw(phase)
            losses = []
            for piece in training.losses(phase, long_histories(64), aligned=True):
                piece["total"].backward()
                losses.append({key: value.item() for key, value in piece.items()})
        found.append((losses, gradients(training)))
    (ragged, ragged_grads), (padded, padded_grads) = found
    assert len(ragged) == -(-64 // CONFIGS[name].chunk_size)
    for one, other in zip(ragged, padded, strict=True):
        assert other == pytest.approx(one, abs=1e-5, rel=1e-5)
    assert padded_grads.keys() == ragged_grads.keys()
    for parameter, gradient in ragged_grads.items():
        torch.testing.assert_close(padded_grads[parameter], gradient, atol=1e-5, rtol=1e-4, msg=parameter)


@pytest.mark.parametrize("max_tokens", [1, 100, None])
def test_token_losses_of_pieces_of_any_size_add_up_to_that_of_the_ragged_layout(
    tmp_path: Path, max_tokens: int | None
) -> None:
    training, batch = tiny_training(tmp_path, WITHOUT_DROPOUT), long_histories(40)
    model = training.model.generator
    with torch.no_grad():
        expected = sum(token_losses(model, batch.histories, torch.from_numpy(batch.targets), training.model.codes_NL))
        with native_kernels():
            pieces = list(
                token_losses(
                    model,
                    batch.histories,
                    torch.from_numpy(batch.targets),
                    training.model.codes_NL,
                    max_tokens=max_tokens,
                )
            )
    assert (len(pieces) == 1) == (max_tokens is None)
    torch.testing.assert_close(sum(pieces), expected, atol=1e-5, rtol=1e-5)


def test_beams_find_the_same_lists_with_the_same_scores(tmp_path: Path) -> None:
    training = tiny_training(tmp_path, WITHOUT_DROPOUT)
    torch.nn.init.normal_(training.model.generator.tokens.weight)  # scores that differ
    recommender, histories = training.recommender(), long_histories(50).histories
    search, found = Search(num_beams=10, k=10), []
    for kernels in (nullcontext, native_kernels):
        with kernels():
            found.append(
                recommend_by_codes(recommender.model, histories, recommender.codes.codes, recommender.trie, search)
            )
    assert np.array_equal(found[0][0], found[1][0])
    np.testing.assert_allclose(found[1][1], found[0][1], atol=1e-4)


def test_dropout_leaves_out_about_its_share_and_the_mean_stays(tmp_path: Path) -> None:
    training = tiny_training(tmp_path, TINY.replace(generator=TINY.generator.replace(dropout=0.3)))
    model, batch = training.model.generator, long_histories(64)
    with torch.no_grad(), native_kernels():
        torch.manual_seed(0)
        first, second = (model.train().summary(batch.histories, training.model.codes_NL) for _ in range(2))
        alone = model.eval().summary(batch.histories, training.model.codes_NL)
    assert not torch.equal(first.bos_BD, second.bos_BD)
    assert (first.bos_BD == 0).float().mean().item() == pytest.approx(0.3, abs=0.05)
    assert (alone.bos_BD != 0).all()


@pytest.mark.parametrize("alternating", [True, False])
def test_in_bf16_losses_and_codes_are_in_full_precision_and_the_difference_is_told(
    tmp_path: Path, alternating: bool
) -> None:
    config = WITHOUT_DROPOUT.replace(alternating=alternating, joint_refresh="step")
    with native_kernels():
        training = tiny_training(tmp_path, config)
        training = ETEGRecTraining(training.model, tiny_dataset(), replace(training.context, precision="bf16"))
        phase = "recommender" if alternating else "joint"
        training.thaw(phase)
        with torch.autocast("cpu", torch.bfloat16):
            piece = next(training.losses(phase, one_batch(training), aligned=True))
        assert {value.dtype for value in piece.values()} == {torch.float32}
        training.model.refresh_codes()
        codes = training.model.codes_NL.clone()
        with torch.autocast("cpu", torch.bfloat16):
            assert training.model.refresh_codes() == 0
        assert torch.equal(training.model.codes_NL, codes)
        history = watch(training, training.first_stage(), tmp_path / "fit").history
    told = [row["measures"]["codes_differing_in_bf16"] for row in history if "codes_changed" in row["measures"]]
    assert told
    assert all(0 <= share < 1 for share in told)
