"""Fits, files and lists on a stand-in for a GPU. Oracle: the same on the CPU, equal to the bit."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.methods import methods

HERE = Path(__file__).parent
WITHOUT_KERNEL = {"gru4rec": "the stand-in has no recurrent layer"}
needs_torch = pytest.mark.skipif(
    not torch.__version__.startswith("2.13."), reason="the stand-in stands on private API of torch 2.13"
)


def fits_on_stand_in(*names: str) -> dict[str, Any]:
    """What the program prints, with torch's own kernels on the CPU too: those of a device."""
    command = [sys.executable, str(HERE / "fits_on_stand_in.py"), *names]
    environment = {**os.environ, "HARNESS_KERNELS": "native", "OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = os.pathsep.join([str(HERE.parents[1]), environment.get("PYTHONPATH", "")])
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return json.loads(ended.stdout)


def check(found: dict[str, Any], gap: float = 0) -> None:
    for name, result in found.items():
        assert "error" not in result, (name, result["error"])
        assert result["same_items"], name
        assert result["gap"] <= gap, name


@needs_torch
def test_methods_fit_save_and_recommend_there_as_on_the_cpu() -> None:
    found = fits_on_stand_in("sasrec", "letter", "etegrec")
    check(found)
    assert all(result["kernels"] > 1000 for result in found.values())


@needs_torch
@pytest.mark.slow
def test_every_method_recipe_and_ablation_does() -> None:
    names = []
    for name, method in methods().items():
        if name not in WITHOUT_KERNEL:
            names += [
                name,
                *(f"{name}:{each}" for each in (*method.recipes, *method.ablations) if each != "at+finetuning"),
            ]
    check(fits_on_stand_in(*names), gap=1e-5)  # HSTU's products take other kernels there
