"""Fits methods on the stand-in for a GPU and on the CPU, and prints as JSON how they compare.

python fits_on_stand_in.py METHOD[:RECIPE_OR_ABLATION]...

On the stand-in each fit is interrupted after an epoch and goes on from its checkpoint, in fp32 and in bf16. The first
step of each epoch of the one in fp32 is made in bf16 too.
"""

import json
import sys
import tempfile
import traceback
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import autocast_lists
import fused
import numpy as np
import rounded_steps
import torch
from stand_in_gpu import GPU, StandInGpu

from harness.config import merged
from harness.experiment.compute import histories
from harness.interfaces import Progress, Recommendations
from harness.methods import method_named
from harness.testing.planted import (
    computed_inputs,
    context_of,
    fit_stage,
    held_out,
    planted_dataset,
    shortened,
)


class Outcome(NamedTuple):
    """What came of a fit."""

    lists: Recommendations
    losses: list[tuple[str, float]]  # of each epoch of each training, with what the epoch is


class Interruption(Exception):
    """Ends a fit after its first epoch."""


def outcome(name: str, device: torch.device, folder: Path, *, precision: str = "fp32") -> Outcome:
    """Lists and losses of a fit on the device, interrupted once if that is the stand-in; its needs are the CPU's."""
    name, _, variant = name.partition(":")
    method, dataset = method_named(name), planted_dataset()
    config = merged(method.presets["lite"], shortened(method.tiny))
    if variant:
        config = (
            method.recipes[variant](config) if variant in method.recipes else method.ablations[variant].change(config)
        )
    stage = fit_stage(method, config, dataset=dataset)
    inputs = computed_inputs(stage, dataset, folder / "cache")
    context = replace(context_of(stage, folder / f"{device.type}-{precision}"), device=device, precision=precision)
    context.folder.mkdir()

    def interrupt(progress: Progress) -> None:
        if progress.epoch < progress.epochs:
            raise Interruption

    if device == GPU:
        with suppress(Interruption):
            method.fit(config, dataset, inputs, replace(context, report=interrupt))
    recommender = method.fit(config, dataset, inputs, context)
    recommender.save(context.folder)
    loaded = method.load(context.folder, config, dataset, context)
    lists = [each.recommend(held_out(dataset).histories, 10) for each in (recommender, loaded)]
    assert np.array_equal(lists[0].items, lists[1].items), "loaded weights recommend other items"
    return Outcome(lists[0], [(row["phase"], row["losses"]["total"]) for row in histories(context.folder)])


def gap_of_losses(rough: Outcome, exact: Outcome) -> float:
    """The largest gap between losses of an epoch, beside the greatest loss of its kind of epoch.

    Beside the epoch's own, which falls to a twentieth, it would be that of weights moved by a millionth: 15 %.
    """
    greatest: dict[str, float] = {}
    for phase, loss in exact.losses:
        greatest[phase] = max(greatest.get(phase, 0.0), abs(loss))
    pairs = zip(rough.losses, exact.losses, strict=True)
    return max((abs(a - b) / greatest[phase] for (_, a), (phase, b) in pairs), default=0.0)


def compared(name: str) -> dict[str, Any]:
    """Whether a method's results on the stand-in are those of the CPU, and what it did there."""
    with tempfile.TemporaryDirectory() as folder:
        expected = outcome(name, torch.device("cpu"), Path(folder))
        gpu = StandInGpu()
        with gpu, fused.installed(gpu), autocast_lists.registered():
            with rounded_steps.measured(GPU) as gaps:
                found = outcome(name, GPU, Path(folder))
            kernels, moved_ahead = sum(gpu.kernels.values()), sum(gpu.ahead.values())
            rough = outcome(name, GPU, Path(folder), precision="bf16")
        return {
            "kernels": kernels,
            "moved_ahead": moved_ahead,
            "waits": dict(gpu.waits.most_common(8)),
            "same_items": bool(np.array_equal(found.lists.items, expected.lists.items)),
            "gap": float(np.abs(found.lists.scores - expected.lists.scores).max()),
            "same_losses": found.losses == expected.losses,
            "bf16": {
                "computed_in": sorted({site.partition(":")[0] for site in gpu.low}),
                "gaps_of_a_step": gaps.losses,
                "gaps_of_gradients": gaps.gradients,
                "gap_of_losses": gap_of_losses(rough, expected),
                "differs": rough.losses != expected.losses,
                "same_share": float((rough.lists.items[:, 0] == expected.lists.items[:, 0]).mean()),
            },
        }


def main(names: list[str]) -> None:
    """Prints a finding, or the error, for each method."""
    results: dict[str, Any] = {}
    for name in names:
        try:
            results[name] = compared(name)
        except Exception:
            results[name] = {"error": traceback.format_exc().splitlines()[-12:]}
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main(sys.argv[1:])
