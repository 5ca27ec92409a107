"""A device is part of a result's identity. Oracles: keys of a CPU before there were devices; a GPU that is made up."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from harness.config import merged
from harness.experiment.compute import compute_stage
from harness.experiment.evaluate import gpu_facts
from harness.experiment.place import Place
from harness.experiment.plan import Plan, Settings, make_plan
from harness.interfaces import Contract, Need
from harness.methods import methods, stage_of
from harness.provenance import gpu, peak_gpu_memory
from harness.stages import write_json
from harness.testing import planted

NAMES = ["markov", "sasrec", "tiger", "etegrec"]


def plan_on(**conditions: str) -> Plan:
    tables = {name: method.tiny for name, method in methods().items()}
    settings = Settings(tables=tables, **conditions)
    return make_plan(planted.planted_dataset(), method_names=NAMES, ablation_names=[], seeds=[0], settings=settings)


def keys(plan: Plan) -> set[str]:
    return {stage.key for stage in plan.stages} | {cell.config_digest for cell in plan.cells}


def test_no_stage_and_no_row_of_one_device_or_precision_is_anothers() -> None:
    plans = [plan_on(), plan_on(device="cuda"), plan_on(precision="bf16"), plan_on(device="cuda", precision="bf16")]
    assert len({len(keys(plan)) for plan in plans}) == 1
    assert len(set.union(*map(keys, plans))) == 4 * len(keys(plans[0]))


def test_on_a_cpu_no_key_tells_of_a_device() -> None:
    conditions = {"contract": Contract().model_dump(mode="json"), "precision": "fp32"}
    config = merged(methods()["sasrec"].presets["lite"], methods()["sasrec"].tiny)
    before = stage_of(
        Need("sasrec", config), dataset=planted.planted_dataset().fingerprint, seed=0, conditions=conditions
    )
    assert before.key in keys(plan_on())


def test_a_stage_is_never_computed_on_another_device_than_it_is_named_by(tmp_path: Path) -> None:
    stage = plan_on(device="cuda").stages[0]
    with pytest.raises(AssertionError, match="named by the device"):
        compute_stage(stage, Place(tmp_path, tmp_path, tmp_path), lambda message: None)


def test_a_gpus_name_driver_and_peak_memory_are_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert gpu("cpu") == peak_gpu_memory("cpu") == {}
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Made-up 100")
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda: 3 * 2**30)
    assert gpu("cuda") == {"gpu": "Made-up 100", "driver": gpu("cuda")["driver"], "cuda": "13.0"}
    assert peak_gpu_memory("cuda") == {"peak_gpu_memory_mb": 3072.0}

    plan, place = plan_on(device="cuda"), Place(tmp_path, tmp_path, tmp_path, device="cuda")
    (cell,) = (cell for cell in plan.cells if cell.method == "tiger")
    for number, stage in enumerate(cell.fit.with_ancestors()):
        folder = place.store.folder(stage)
        folder.mkdir(parents=True)
        environment = {"python": "3", **gpu("cuda")}
        write_json(folder / "stage.json", {"environment": environment, "peak_gpu_memory_mb": 100.0 + number})
    found = gpu_facts(cell, place)
    peak = 100.0 + len(cell.fit.with_ancestors()) - 1
    assert found == {**gpu("cuda"), "peak_gpu_memory_mb": peak}
    assert gpu_facts(SimpleNamespace(fit=plan_on().cells[1].fit), _without_gpu(tmp_path / "cpu")) == {}


def _without_gpu(root: Path) -> Place:
    """A place whose SASRec was fitted on a CPU."""
    place = Place(root, root, root)
    for stage in plan_on().cells[1].fit.with_ancestors():
        place.store.folder(stage).mkdir(parents=True)
        write_json(place.store.folder(stage) / "stage.json", {"environment": {"python": "3"}})
    return place
