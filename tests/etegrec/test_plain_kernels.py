"""Whole fits in all forms of the kernels. Oracle: the plain form, whose losses differ by rounding alone."""

from contextlib import nullcontext
from pathlib import Path

import pytest
from tiny_etegrec import TINY, tiny_training, watch

from harness.interfaces import FitContext
from harness.methods import methods
from harness.nn.kernels.switch import native_kernels, plain_kernels
from harness.testing.planted import planted_dataset

FORMS = {"fast": nullcontext, "plain": plain_kernels}
ALL_FORMS = {**FORMS, "native": native_kernels}


def test_etegrec_loses_the_same_at_each_epoch(tmp_path: Path) -> None:
    config = TINY.replace(generator=TINY.generator.replace(dropout=0.0))
    seen = {}
    for name, form in FORMS.items():
        with form():
            training = tiny_training(tmp_path, config)
            plans = training.first_stage(), training.finetuning_stage()
            seen[name] = [row["losses"] for plan in plans for row in watch(training, plan, tmp_path / name).history]
    assert len(seen["fast"]) == config.epochs + config.finetuning.epochs
    for fast, plain in zip(seen["fast"], seen["plain"], strict=True):
        assert fast == pytest.approx(plain, abs=1e-5, rel=1e-5)


@pytest.mark.parametrize("softmax", ["full", "chunked"])
def test_sasrec_loses_the_same_at_each_epoch(tmp_path: Path, softmax: str) -> None:
    method = methods()["sasrec"]
    table = {**method.tiny, "dropout": 0.0, "epochs": 5, "patience": None, "softmax": softmax}
    losses: dict[str, list[float]] = {name: [] for name in ALL_FORMS}
    for name, form in ALL_FORMS.items():
        context = FitContext(
            seed=0, folder=tmp_path / name, report=lambda progress, name=name: losses[name].append(progress.loss)
        )
        with form():
            method.fit(method.config(**table), planted_dataset(), {}, context)
    assert len(losses["fast"]) == 5
    assert losses["fast"] == pytest.approx(losses["plain"], abs=1e-5, rel=1e-5)
    assert losses["native"] == pytest.approx(losses["plain"], abs=1e-5, rel=1e-5)
