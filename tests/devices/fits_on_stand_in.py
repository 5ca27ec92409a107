"""Fits methods on the stand-in for a GPU and on the CPU, and prints as JSON how they compare.

python fits_on_stand_in.py METHOD[:RECIPE_OR_ABLATION]...
"""

import json
import sys
import tempfile
import traceback
from dataclasses import replace
from pathlib import Path
from typing import Any

import fused
import numpy as np
import torch
from stand_in_gpu import GPU, StandInGpu

from harness.config import merged
from harness.interfaces import Recommendations
from harness.methods import method_named
from harness.testing.planted import (
    computed_inputs,
    context_of,
    fit_stage,
    held_out,
    planted_dataset,
    shortened,
)


def outcome(name: str, device: torch.device, folder: Path) -> Recommendations:
    """Lists of a fit on the device; what it needs is made on the CPU."""
    name, _, variant = name.partition(":")
    method, dataset = method_named(name), planted_dataset()
    config = merged(method.presets["lite"], shortened(method.tiny))
    if variant:
        config = (
            method.recipes[variant](config) if variant in method.recipes else method.ablations[variant].change(config)
        )
    stage = fit_stage(method, config, dataset=dataset)
    inputs = computed_inputs(stage, dataset, folder / "cache")
    context = replace(context_of(stage, folder / str(device.type)), device=device)
    context.folder.mkdir()
    recommender = method.fit(config, dataset, inputs, context)
    recommender.save(context.folder)
    loaded = method.load(context.folder, config, dataset, context)
    lists = [each.recommend(held_out(dataset).histories, 10) for each in (recommender, loaded)]
    assert np.array_equal(lists[0].items, lists[1].items), "loaded weights recommend other items"
    return lists[0]


def compared(name: str) -> dict[str, Any]:
    """Whether a method's results on the stand-in are those of the CPU, and what it did there."""
    with tempfile.TemporaryDirectory() as folder:
        expected = outcome(name, torch.device("cpu"), Path(folder))
        gpu = StandInGpu()
        with gpu, fused.installed(gpu):
            found = outcome(name, GPU, Path(folder))
        return {
            "kernels": sum(gpu.kernels.values()),
            "waits": dict(gpu.waits.most_common(8)),
            "same_items": bool(np.array_equal(found.items, expected.items)),
            "gap": float(np.abs(found.scores - expected.scores).max()),
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
