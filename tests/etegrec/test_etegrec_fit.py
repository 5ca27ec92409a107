"""ETEGRec's training. Oracles: the table of METHODS C.4, equality to the bit, and losses cut by hand."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_etegrec import NUM_ITEMS, TINY, moved, one_batch, tiny_training, watch, weights
from torch import Tensor

from etegrec.config import ETEGRecConfig
from etegrec.method import METHOD
from etegrec.model import ETEGRec
from etegrec.objectives import first_occurrences, l_sia
from etegrec.training import ETEGRecTraining
from harness.data.samples import PrefixSamples
from harness.evaluation.outcomes import validation_score
from harness.generative.generator import Batch
from harness.interfaces import FitContext, Progress
from harness.training.loop import Losses, Phase, train

WHOLE = TINY.replace(chunk_size=64, generator=TINY.generator.replace(dropout=0.0))  # a batch is one chunk


def parts(model: ETEGRec) -> dict[str, list[Tensor]]:
    """The columns of METHODS C.4's table."""
    return {
        "Enc_T": [*model.tokenizer.encoder.parameters()],
        "codebooks": [model.tokenizer.codebooks_LKD],
        "Dec_T": [*model.tokenizer.decoder.parameters()],
        "T5 enc": [*model.generator.encoder.parameters()],
        "T5 dec": [*model.generator.decoder.parameters()],
        "tables": [model.generator.tokens.weight],
        "SIA adapter": [*model.sia_adapter.parameters()],
        "PSA adapter": [*model.psa_adapter.parameters()],
    }


def reached(training: ETEGRecTraining, losses: Callable[[Batch], Iterator[Losses]], name: str) -> set[str]:
    """The columns that the gradient of one loss reaches."""
    training.model.zero_grad(set_to_none=True)
    (piece,) = losses(one_batch(training))
    piece[name].backward()
    return {
        part
        for part, tensors in parts(training.model).items()
        if any(tensor.grad is not None and tensor.grad.abs().sum() > 0 for tensor in tensors)
    }


@pytest.mark.parametrize("moves_adapter", [True, False])
@pytest.mark.parametrize(
    ("loss", "columns"),
    [
        ("sq", {"Enc_T", "codebooks", "Dec_T"}),
        ("sia", {"Enc_T", "codebooks"}),
        ("psa", {"Enc_T", "Dec_T"}),
    ],
)
def test_a_tokenizer_epochs_losses_reach_what_the_table_says(
    tmp_path: Path, loss: str, columns: set[str], moves_adapter: bool
) -> None:
    training = tiny_training(tmp_path, WHOLE.replace(sia_adapter_in_tokenizer_epochs=moves_adapter))
    training.thaw("tokenizer")
    expected = columns | ({"SIA adapter"} if loss == "sia" and moves_adapter else set())
    assert reached(training, partial(training.losses, "tokenizer", aligned=True), loss) == expected


@pytest.mark.parametrize(
    ("loss", "columns"),
    [
        ("rec", {"T5 enc", "T5 dec", "tables"}),
        ("sia", {"T5 enc", "tables", "SIA adapter"}),
        ("psa", {"T5 enc", "T5 dec", "tables", "PSA adapter"}),
    ],
)
def test_a_recommender_epochs_losses_reach_what_the_table_says(tmp_path: Path, loss: str, columns: set[str]) -> None:
    training = tiny_training(tmp_path, WHOLE)
    training.thaw("recommender")
    assert reached(training, partial(training.losses, "recommender", aligned=True), loss) == columns


def test_a_joint_step_reaches_every_part(tmp_path: Path) -> None:
    training = tiny_training(tmp_path, WHOLE.replace(alternating=False))
    training.thaw("joint")
    columns = reached(training, partial(training.losses, "joint", aligned=True), "total")
    assert columns == set(parts(training.model))


def test_sia_reaches_the_recommender_through_the_first_level_only(tmp_path: Path) -> None:
    training = tiny_training(tmp_path, WHOLE)
    model, batch = training.model, one_batch(training)
    training.thaw("recommender")
    (piece,) = training.losses("recommender", batch, aligned=True)
    piece["sia"].backward()
    found = [parameter.grad.clone() for parameter in parts(model)["SIA adapter"]]

    model.zero_grad(set_to_none=True)
    targets = torch.from_numpy(batch.targets)
    output, _ = training.generate(batch.histories, targets)
    rows = torch.from_numpy(first_occurrences(batch.targets))
    items = model.tokenizer(model.vectors_ND[targets[rows]]).quantized.distances_BLK
    sequences = model.tokenizer.quantize(model.sia_adapter(output.summary.pooled_BD[rows])).distances_BLK
    (l_sia(items[:, :1], sequences[:, :1]) / items.shape[1]).backward()
    for ours, first_level in zip(found, parts(model)["SIA adapter"], strict=True):
        torch.testing.assert_close(ours, first_level.grad)


@pytest.mark.parametrize("moves_adapter", [True, False])
def test_an_epoch_moves_its_own_part_and_leaves_the_other_as_it_was_to_the_bit(
    tmp_path: Path, moves_adapter: bool
) -> None:
    training = tiny_training(
        tmp_path, TINY.replace(alignment_warmup_epochs=0, sia_adapter_in_tokenizer_epochs=moves_adapter)
    )
    seen = watch(training, training.first_stage(), tmp_path)
    changes = [moved(before, after) for before, after in zip(seen.snapshots[:-1], seen.snapshots[1:], strict=True)]
    assert [row["phase"] for row in seen.history] == ["tokenizer", "recommender"] * 2
    for change in changes[::2]:
        assert change - {"codes_NL"} == {"tokenizer"} | ({"sia_adapter"} if moves_adapter else set())
    for change in changes[1::2]:
        assert change == {"generator", "sia_adapter", "psa_adapter"}


@pytest.mark.parametrize("cycle", [2, 3])
def test_a_cycle_is_one_tokenizer_epoch_and_then_recommender_epochs(tmp_path: Path, cycle: int) -> None:
    training = tiny_training(tmp_path, TINY.replace(cycle=cycle, epochs=6, evaluate_every=cycle))
    names = [training.phase_of(epoch).name for epoch in range(6)]
    assert names == (["tokenizer"] + ["recommender"] * (cycle - 1)) * (6 // cycle)


def test_codes_stay_inside_an_epoch_and_are_made_anew_at_the_end_of_a_tokenizer_epoch(tmp_path: Path) -> None:
    training = tiny_training(tmp_path)
    seen = watch(training, training.first_stage(), tmp_path)
    for before, codes in zip(seen.snapshots[:-1], seen.step_codes, strict=True):
        assert len(codes) == training.steps_per_epoch
        assert all(torch.equal(at_step, before["codes_NL"]) for at_step in codes)
    changed = [
        (before["codes_NL"] != after["codes_NL"]).any(dim=1)[1:].double().mean().item()
        for before, after in zip(seen.snapshots[:-1], seen.snapshots[1:], strict=True)
    ]
    assert changed[0] > 0
    assert changed[1::2] == [0, 0]
    assert [row["measures"].get("codes_changed", 0) for row in seen.history] == pytest.approx(changed)
    used = [len(set(after["codes_NL"][1:, 0].tolist())) for after in seen.snapshots[1::2]]
    assert [row["measures"]["used_codes_1"] for row in seen.history[::2]] == used


@pytest.mark.parametrize("alternating", [True, False])
def test_items_never_share_a_code_tuple(tmp_path: Path, alternating: bool) -> None:
    training = tiny_training(tmp_path, TINY.replace(alternating=alternating))
    seen = watch(training, training.first_stage(), tmp_path)
    after_epochs = [snapshot["codes_NL"] for snapshot in seen.snapshots]
    for codes in [*after_epochs, *(codes for epoch in seen.step_codes for codes in epoch)]:
        assert len({tuple(row) for row in codes[1:].tolist()}) == NUM_ITEMS
        assert codes.min() >= 0
        assert codes.max() < TINY.tokenizer.rqvae.codebook_size


@pytest.mark.parametrize("alternating", [True, False])
def test_alignments_begin_after_their_warm_up(tmp_path: Path, alternating: bool) -> None:
    training = tiny_training(tmp_path, TINY.replace(alternating=alternating, alignment_warmup_epochs=2))
    seen = watch(training, training.first_stage(), tmp_path)
    aligned = [{"sia", "psa"} <= set(row["losses"]) for row in seen.history]
    unaligned = [not {"sia", "psa"} & set(row["losses"]) for row in seen.history]
    assert aligned == [False, False, True, True]
    assert unaligned == [True, True, False, False]
    assert not {"sia_adapter", "psa_adapter"} & moved(seen.snapshots[0], seen.snapshots[2])


@pytest.mark.parametrize("keep_alignments", [False, True])
def test_fine_tuning_leaves_tokenizer_and_codes_as_they_were_to_the_bit(tmp_path: Path, keep_alignments: bool) -> None:
    finetuning = TINY.finetuning.replace(keep_alignments=keep_alignments)
    training = tiny_training(tmp_path, TINY.replace(finetuning=finetuning))
    seen = watch(training, training.finetuning_stage(), tmp_path)
    adapters = {"sia_adapter", "psa_adapter"} if keep_alignments else set()
    assert moved(seen.snapshots[0], seen.snapshots[-1]) == {"generator"} | adapters


def test_a_joint_epoch_makes_codes_anew_at_each_step_and_by_switch_at_its_end(tmp_path: Path) -> None:
    distinct = {}
    for refresh in ("step", "epoch"):
        training = tiny_training(tmp_path, TINY.replace(alternating=False, joint_refresh=refresh, epochs=1))
        fresh = []

        def compare(model: ETEGRec = training.model, fresh: list[bool] = fresh) -> None:
            used = model.codes_NL.clone()
            model.refresh_codes()
            fresh.append(torch.equal(used, model.codes_NL))
            model.codes_NL.copy_(used)

        seen = watch(training, training.first_stage(), tmp_path / refresh, at_step=compare)
        distinct[refresh] = len({str(codes.tolist()) for codes in seen.step_codes[0]})
        last = seen.snapshots[-1]["codes_NL"]
        training.model.refresh_codes()
        assert torch.equal(last, training.model.codes_NL)  # the epoch's weights and its codes belong together
        assert not all(fresh)  # the weights have moved on by a step since the codes were made
    assert distinct == {"step": 3, "epoch": 1}


def test_chunks_cover_the_batch_in_order_and_their_shares_sum_to_one(tmp_path: Path) -> None:
    training = tiny_training(tmp_path, TINY.replace(chunk_size=24))
    batch = one_batch(training)
    chunks = list(training.chunks(batch))
    assert [chunk.share for chunk in chunks] == [24 / 64, 24 / 64, 16 / 64]
    assert torch.cat([chunk.targets_B for chunk in chunks]).tolist() == batch.targets.tolist()
    rows = [chunk.histories.row(place).tolist() for chunk in chunks for place in range(len(chunk.histories))]
    assert rows == [batch.histories.row(place).tolist() for place in range(len(batch.targets))]


def test_a_batch_that_is_no_larger_than_a_chunk_is_one_chunk_and_stays_whole(tmp_path: Path) -> None:
    training = tiny_training(tmp_path, TINY.replace(chunk_size=64))
    for batch in training.batches(np.random.default_rng(0)):  # 64, 64 and 32 samples
        (chunk,) = training.chunks(batch)
        assert chunk.histories is batch.histories
        assert chunk.share == 1
        assert chunk.targets_B.tolist() == batch.targets.tolist()


def test_chunks_count_by_their_size(tmp_path: Path) -> None:
    """L_REC is a mean over samples, so chunks of unequal size must give the loss and the gradient of the whole."""
    config = WHOLE.replace(mu=0.0, lambda_=0.0)
    results = []
    for chunk_size in (64, 24):
        training = tiny_training(tmp_path, config.replace(chunk_size=chunk_size))
        training.thaw("recommender")
        total = torch.zeros(())
        for piece in training.losses("recommender", one_batch(training), aligned=True):
            piece["total"].backward()
            total += piece["total"].detach()
        results.append((total, training.model.generator.tokens.weight.grad))
    torch.testing.assert_close(results[0], results[1])


def test_negatives_come_from_the_own_chunk(tmp_path: Path) -> None:
    """PSA of two chunks is the mean of each chunk's own PSA, not PSA of the whole."""
    training = tiny_training(tmp_path, WHOLE.replace(chunk_size=32))
    training.thaw("recommender")
    batch = one_batch(training)
    pieces = [piece["psa"] for piece in training.losses("recommender", batch, aligned=True)]
    halves = []
    for rows in (range(32), range(32, 64)):
        half = batch.rows(rows)
        targets = torch.from_numpy(half.targets)
        output, _ = training.generate(half.histories, targets)
        counted = torch.from_numpy(first_occurrences(half.targets))
        halves.append(training.model.alignments(output.summary, targets, counted)["psa"])
    torch.testing.assert_close(sum(pieces), (halves[0] + halves[1]) / 2)


def test_the_weighted_total_is_the_sum_written_out(tmp_path: Path) -> None:
    training = tiny_training(tmp_path, WHOLE.replace(mu=0.3, lambda_=0.2))
    training.thaw("joint")
    batch = one_batch(training)
    (piece,) = training.losses("joint", batch, aligned=True)
    expected = piece["rec"] + piece["sq"] + 0.3 * piece["sia"] + 0.2 * piece["psa"]
    torch.testing.assert_close(piece["total"], expected)


def test_an_epoch_sees_every_prefix_once(tmp_path: Path) -> None:
    training = tiny_training(tmp_path)
    seen: list[int] = []

    def losses(batch: Batch) -> Iterator[Losses]:
        seen.append(len(batch.targets))
        yield {"total": training.model.generator.tokens.weight.sum()}

    plan = training.finetuning_stage()
    phase = Phase("count", (), losses)
    train(
        type(plan)(
            name="count", model=plan.model, learners={}, phase_of=lambda epoch: phase, batches=plan.batches, epochs=1
        ),
        FitContext(seed=0, folder=tmp_path),
    )
    assert sum(seen) == len(PrefixSamples.of(training.dataset)) == 160


def test_selection_keeps_weights_and_codes_of_the_same_epoch(tmp_path: Path) -> None:
    training = tiny_training(tmp_path)
    history = train(training.first_stage(), training.context)
    best = max(row["score"] for row in history if row["score"] is not None)
    assert validation_score(training.recommender(), training.dataset) == best
    selected = weights(training.model)["codes_NL"]
    training.model.refresh_codes()
    assert torch.equal(selected, training.model.codes_NL)


class Interrupted(Exception):
    """Stands for whatever ends a process."""


def both_stages(folder: Path, config: ETEGRecConfig, stop_at: tuple[str, int] | None = None) -> dict[str, Tensor]:
    """The final weights and codes; or `Interrupted` after that stage's epoch, before its checkpoint."""

    def report(progress: Progress) -> None:
        if (progress.stage, progress.epoch) == stop_at:
            raise Interrupted

    context = FitContext(seed=0, folder=folder, report=report)
    training = tiny_training(folder, config, context)
    train(training.first_stage(), context)
    train(training.finetuning_stage(), context)
    return weights(training.model)


@pytest.mark.parametrize(
    ("alternating", "stop_at"),
    [
        (True, ("alternating", 2)),
        (True, ("alternating", 3)),
        (True, ("finetuning", 1)),
        (True, ("finetuning", 2)),
        (False, ("joint", 3)),
    ],
)
def test_an_interrupted_fit_that_goes_on_ends_with_the_same_bits(
    tmp_path: Path, alternating: bool, stop_at: tuple[str, int]
) -> None:
    config = TINY.replace(alternating=alternating)
    whole = both_stages(tmp_path / "whole", config)
    with pytest.raises(Interrupted):
        both_stages(tmp_path / "halves", config, stop_at)
    resumed = both_stages(tmp_path / "halves", config)
    assert not moved(whole, resumed)


@pytest.mark.parametrize("phase", ["recommender", "joint"])
def test_adapters_that_decay_move_as_under_adamw_on_alignments_times_0(tmp_path: Path, phase: str) -> None:
    """Oracle: torch's own AdamW on L_REC + 0 SIA + 0 PSA, as the released code trains while alignments are off."""
    config = WHOLE.replace(adapters_while_off="decay", alternating=phase == "recommender")
    ours, theirs = (tiny_training(tmp_path, config) for _ in range(2))
    batch = one_batch(ours)
    learner = ours.recommender_learner()
    expected = torch.optim.AdamW(
        theirs.recommender_parts.parameters(), lr=config.learning_rate_recommender, weight_decay=config.weight_decay
    )
    for training in (ours, theirs):
        training.thaw(phase)
    for step in range(1, 4):
        for piece in ours.losses(phase, batch, aligned=False):
            piece["total"].backward()
        learner.step()

        expected.zero_grad()
        output, codes = theirs.generate(batch.histories, torch.from_numpy(batch.targets))
        rec = torch.nn.functional.cross_entropy(output.logits_LBK.flatten(0, 1), codes.T.flatten())
        counted = torch.from_numpy(first_occurrences(batch.targets))
        off = theirs.model.alignments(output.summary, torch.from_numpy(batch.targets), counted)
        (rec + 0 * off["sia"] + 0 * off["psa"]).backward()
        torch.nn.utils.clip_grad_norm_(theirs.recommender_parts.parameters(), config.max_norm)
        for group in expected.param_groups:
            group["lr"] = config.learning_rate_recommender * learner.schedule(step - 1)
        expected.step()

        for part in ("sia_adapter", "psa_adapter"):
            pairs = zip(getattr(ours.model, part).parameters(), getattr(theirs.model, part).parameters(), strict=True)
            for mine, reference in pairs:
                torch.testing.assert_close(mine, reference, rtol=1e-6, atol=0)
                assert learner.optimizer.state[mine]["step"] == expected.state[reference]["step"] == step


def test_the_first_aligned_step_depends_on_whether_adam_counted_the_steps_before_it(tmp_path: Path) -> None:
    """Oracle: Adam by hand. A first gradient g moves a weight by the learning rate times sign(g).

    After n steps with a gradient of 0 the bias corrections have gone on, and it moves by the multiple
    (1 - b1) / (1 - b1^(n + 1)) * sqrt((1 - b2^(n + 1)) / (1 - b2)) of that: half for n = 9, three times for n = 2,500.
    """
    steps = {}
    for habit in ("idle", "decay"):
        config = WHOLE.replace(adapters_while_off=habit, weight_decay=0.0, max_norm=1e6)
        training = tiny_training(tmp_path, config)
        training.thaw("recommender")
        learner, batch = training.recommender_learner(), one_batch(training)
        weight = training.model.psa_adapter[0].weight
        for aligned in [False] * 9 + [True]:
            before = weight.detach().clone()
            for piece in training.losses("recommender", batch, aligned=aligned):
                piece["total"].backward()
            learner.step()
            assert aligned or torch.equal(before, weight)
        steps[habit] = (weight - before).abs().median().item()
    growth = (1 - 0.9) / (1 - 0.9**10) * ((1 - 0.999**10) / (1 - 0.999)) ** 0.5
    assert steps["decay"] / steps["idle"] == pytest.approx(growth, rel=0.01)


@pytest.mark.parametrize("aligned", [False, True])
def test_l_rec_over_tokens_is_a_sum_or_a_mean(tmp_path: Path, aligned: bool) -> None:
    """Oracle: the cross-entropies of each of the 3 + 1 tokens, added. The weights of mu and lambda stay."""
    totals, gradients = {}, {}
    for form in ("mean", "sum"):
        training = tiny_training(tmp_path, WHOLE.replace(rec_tokens=form))
        training.thaw("recommender")
        batch = one_batch(training)
        (piece,) = training.losses("recommender", batch, aligned=aligned)
        totals[form] = piece["total"] - 0.5 * piece["sia"] - 0.5 * piece["psa"] if aligned else piece["total"]
        piece["total"].backward()
        gradients[form] = training.model.psa_adapter[0].weight.grad
    output, codes = training.generate(batch.histories, torch.from_numpy(batch.targets))
    by_token = [
        torch.nn.functional.cross_entropy(logits_BK, codes_B)
        for logits_BK, codes_B in zip(output.logits_LBK, codes.T, strict=True)
    ]
    torch.testing.assert_close(totals["sum"], sum(by_token))
    torch.testing.assert_close(totals["sum"], 4 * totals["mean"])
    if aligned:
        torch.testing.assert_close(gradients["sum"], gradients["mean"])


@pytest.mark.parametrize("preset", ["lite", "paper"])
def test_the_recipes_take_the_papers_and_the_released_codes_sides(preset: str) -> None:
    """Oracle: the table of METHODS C.5, #10, #12 and #39."""
    own = METHOD.presets[preset]
    paper, official = METHOD.recipes["paper"](own), METHOD.recipes["official"](own)
    assert (own.rec_tokens, own.adapters_while_off) == ("mean", "idle")
    assert (paper.rec_tokens, paper.sia_levels, paper.tokenizer.rqvae.loss_form) == ("sum", "sum", "sum")
    assert paper.chunk_size == paper.batch_size == own.batch_size  # all of a batch are negatives
    assert (official.rec_tokens, official.chunk_size) == ("mean", own.chunk_size)
    assert official.adapters_while_off == "decay"
