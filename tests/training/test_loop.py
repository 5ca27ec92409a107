"""The training loop. Oracles: torch's own optimisers stepped by hand, an uninterrupted run, arithmetic by hand."""

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from harness.errors import StageError
from harness.interfaces import FitContext
from harness.seeding import derive_seed, numpy_stream
from harness.training.checkpoints import Checkpoint, load_tensors, save_tensors
from harness.training.learner import Learner
from harness.training.loop import Losses, Phase, TrainingPlan, train
from harness.training.schedules import warmup_then_cosine


class Regression:
    """A small noisy regression whose batches, dropout and scores are all random but seeded."""

    def __init__(self, epochs: int = 6, patience: int | None = None, scores: list[float] | None = None):
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 1))
        self.inputs = torch.randn(32, 4)
        self.targets = self.inputs.sum(dim=1, keepdim=True)
        self.scores = scores
        self.scored: list[int] = []
        self.epochs_run: list[int] = []
        self.learner = Learner(
            torch.optim.AdamW(self.model.parameters(), lr=1e-2), warmup_then_cosine(4, 40), max_norm=0.5
        )
        self.plan = TrainingPlan(
            name="regression",
            model=self.model,
            learners={"all": self.learner},
            phase_of=self.phase_of,
            batches=self.batches,
            epochs=epochs,
            score=self.score,
            patience=patience,
        )

    def phase_of(self, epoch: int) -> Phase:
        self.epochs_run.append(epoch)
        return Phase("fit", ("all",), self.losses, begin=self.begin)

    def begin(self) -> None:
        self.model.train()

    def losses(self, rows: Tensor) -> Iterator[Losses]:
        yield {"total": (self.model(self.inputs[rows]) - self.targets[rows]).square().mean()}

    def batches(self, stream: np.random.Generator) -> Iterator[Tensor]:
        yield from torch.from_numpy(stream.permutation(32)).split(8)

    @torch.no_grad()
    def score(self) -> float:
        self.model.eval()
        self.scored.append(len(self.epochs_run))
        if self.scores is not None:
            return self.scores[len(self.scored) - 1]
        return -float((self.model(self.inputs) - self.targets).square().mean())


def weights(model: nn.Module) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


@pytest.mark.parametrize(("precision", "seen"), [("bf16", torch.bfloat16), ("fp32", torch.float32)])
def test_forward_passes_alone_run_in_the_asked_precision(
    tmp_path: Path, precision: Literal["fp32", "bf16"], seen: torch.dtype
) -> None:
    """Two pieces a step: backward of the first must not lie within autocast, forward of the second must."""
    regression = Regression(epochs=1)
    forward: set[torch.dtype] = set()
    backward: set[bool] = set()

    def losses(rows: Tensor) -> Iterator[Losses]:
        for part in rows.chunk(2):
            output = regression.model(regression.inputs[part])
            forward.add(output.dtype)
            output.register_hook(lambda grad: backward.add(torch.is_autocast_enabled("cpu")))
            yield {"total": (output.float() - regression.targets[part]).square().mean()}

    phase = Phase("fit", ("all",), losses)
    train(replace(regression.plan, phase_of=lambda _: phase), FitContext(3, tmp_path, precision=precision))
    assert forward == {seen}
    assert backward == {False}


def test_training_equals_steps_written_out_by_hand(tmp_path: Path) -> None:
    context = FitContext(seed=3, folder=tmp_path)
    trained = Regression(epochs=2)
    plan = replace(trained.plan, score=None)
    train(plan, context)

    expected = Regression()
    optimizer = torch.optim.AdamW(expected.model.parameters(), lr=1e-2)
    step = 0
    for epoch in range(2):
        torch.manual_seed(derive_seed(3, "regression", "epoch", epoch))
        expected.model.train()
        for rows in expected.batches(numpy_stream(3, "regression", "batches", epoch)):
            optimizer.zero_grad()
            next(iter(expected.losses(rows)))["total"].backward()
            nn.utils.clip_grad_norm_(expected.model.parameters(), 0.5)
            optimizer.param_groups[0]["lr"] = 1e-2 * warmup_then_cosine(4, 40)(step)
            optimizer.step()
            step += 1
    assert torch.equal(weights(trained.model), weights(expected.model))


@pytest.mark.parametrize("length", [0.1, 0.9995, 1.0, 7.0, math.nan])
def test_the_clip_is_torchs_to_the_bit(length: float) -> None:
    direction = torch.randn(12, generator=torch.Generator().manual_seed(0))
    gradients = (*(length * direction / direction.norm()).split([7, 5]), None)  # the last part is frozen

    def parts() -> list[nn.Parameter]:
        made = [nn.Parameter(torch.zeros(size)) for size in (7, 5, 3)]
        for part, gradient in zip(made, gradients, strict=True):
            part.grad = None if gradient is None else gradient.clone()
        return made

    ours, theirs = parts(), parts()
    Learner(torch.optim.SGD(ours, lr=1.0), max_norm=1.0).step()
    nn.utils.clip_grad_norm_(theirs, 1.0)
    torch.optim.SGD(theirs, lr=1.0).step()
    for our, their in zip(ours, theirs, strict=True):
        torch.testing.assert_close(our, their, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("stop_after", [1, 3, 5])
def test_an_interrupted_training_goes_on_to_the_same_bits(tmp_path: Path, stop_after: int) -> None:
    whole = Regression()
    history = train(whole.plan, FitContext(seed=1, folder=tmp_path / "whole"))

    class Interrupted(Exception):
        pass

    def interrupt(progress: object) -> None:
        if len(first.epochs_run) == stop_after + 1:  # in the epoch after, before its checkpoint is written
            raise Interrupted

    context = FitContext(seed=1, folder=tmp_path / "cut", report=interrupt)
    first = Regression()
    with pytest.raises(Interrupted):
        train(first.plan, context)
    second = Regression()
    continued = train(second.plan, FitContext(seed=1, folder=tmp_path / "cut"))
    assert second.epochs_run == list(range(stop_after, 6)), "finished epochs must not run again"
    assert torch.equal(weights(second.model), weights(whole.model))
    strip = [{k: v for k, v in row.items() if not k.endswith("seconds")} for row in history]
    assert [{k: v for k, v in row.items() if not k.endswith("seconds")} for row in continued] == strip


def test_a_finished_training_is_not_repeated(tmp_path: Path) -> None:
    first = Regression()
    train(first.plan, FitContext(seed=1, folder=tmp_path))
    again = Regression()
    train(again.plan, FitContext(seed=1, folder=tmp_path))
    assert again.epochs_run == []
    assert torch.equal(weights(again.model), weights(first.model))


def test_the_weights_of_the_best_score_are_kept_and_patience_ends_training(tmp_path: Path) -> None:
    run = Regression(epochs=9, patience=2, scores=[0.1, 0.5, 0.3, 0.5, 0.9])
    history = train(run.plan, FitContext(seed=0, folder=tmp_path))
    assert [row["score"] for row in history] == [0.1, 0.5, 0.3, 0.5], "an equal score is no improvement"
    best = Regression(epochs=2, scores=[0.1, 0.5])
    train(best.plan, FitContext(seed=0, folder=tmp_path / "best"))
    assert torch.equal(weights(run.model), weights(best.model))


def test_an_equal_score_improves_when_the_plan_says_so(tmp_path: Path) -> None:
    run = Regression(epochs=4, patience=2, scores=[0.5, 0.5, 0.5, 0.5])
    history = train(replace(run.plan, ties_improve=True), FitContext(seed=0, folder=tmp_path))
    assert len(history) == 4


def test_pieces_of_a_step_add_up_to_the_whole_step(tmp_path: Path) -> None:
    def in_pieces(run: Regression) -> TrainingPlan:
        def losses(rows: Tensor) -> Iterator[Losses]:
            for part in rows.split(2):
                error = (run.model(run.inputs[part]) - run.targets[part]).square()
                yield {"total": error.sum() / len(rows)}

        run.model[1].p = 0.0
        return replace(run.plan, phase_of=lambda epoch: Phase("fit", ("all",), losses, run.begin), score=None)

    pieces, whole = Regression(epochs=1), Regression(epochs=1)
    history_pieces = train(in_pieces(pieces), FitContext(seed=0, folder=tmp_path / "pieces"))
    whole.model[1].p = 0.0
    history_whole = train(replace(whole.plan, score=None), FitContext(seed=0, folder=tmp_path / "whole"))
    torch.testing.assert_close(weights(pieces.model), weights(whole.model), atol=1e-6, rtol=1e-5)
    assert history_pieces[0]["losses"]["total"] == pytest.approx(history_whole[0]["losses"]["total"], rel=1e-5)


def test_a_loss_that_is_not_finite_names_stage_phase_epoch_and_step(tmp_path: Path) -> None:
    run = Regression()
    run.targets[:] = float("inf")
    with pytest.raises(StageError, match=r"'total' is inf in stage 'regression', phase 'fit', epoch 1, step 1"):
        train(run.plan, FitContext(seed=0, folder=tmp_path))


def test_a_checkpoint_that_was_cut_short_is_one_clear_line(tmp_path: Path) -> None:
    run = Regression(epochs=2)
    train(run.plan, FitContext(seed=0, folder=tmp_path))
    last = Checkpoint(tmp_path / "resume", "regression").last
    last.write_bytes(last.read_bytes()[:100])
    with pytest.raises(StageError, match="whole checkpoint") as caught:
        train(Regression(epochs=4).plan, FitContext(seed=0, folder=tmp_path))
    assert "\n" not in str(caught.value)


def test_tensors_survive_the_disk_even_when_they_share_memory(tmp_path: Path) -> None:
    base = torch.arange(6.0)
    tensors = {"whole": base, "view": base[2:4], "number": torch.tensor(3)}
    save_tensors(tmp_path / "t.safetensors", tensors)
    loaded = load_tensors(tmp_path / "t.safetensors")
    assert all(torch.equal(loaded[name], tensor) for name, tensor in tensors.items())


def test_the_schedule_rises_linearly_and_falls_on_a_half_cosine() -> None:
    schedule = warmup_then_cosine(10, 110)
    assert [schedule(0), schedule(5), schedule(10)] == [0.0, 0.5, 1.0]
    assert schedule(60) == pytest.approx(0.5)
    assert schedule(35) == pytest.approx(0.5 * (1 + 2**-0.5))
    assert schedule(110) == pytest.approx(0.0)
    assert schedule(1000) == pytest.approx(0.0)
