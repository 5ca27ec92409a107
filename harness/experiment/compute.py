"""Computing one stage in this process, or this process's part of it."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from harness.data.dataset import Dataset
from harness.data.prepare import load_dataset
from harness.distributed import ALONE, Group
from harness.experiment.place import Place
from harness.interfaces import Contract, FitContext
from harness.jobs.graph import Send
from harness.methods import methods
from harness.provenance import environment, gpu, now, peak_gpu_memory, peak_memory_mb
from harness.stages import Stage, read_json


def compute_stage(stage: Stage, place: Place, send: Send) -> None:
    """Computes one stage in this process, or this process's part of it; its progress goes to `send`."""
    assert stage.conditions.get("device", "cpu") == place.device, "a stage is named by the device that computes it"
    world, part, done = place.world, f"{stage.key}/part", f"{stage.key}/done"

    def build_part(folder: Path) -> Dataset:
        dataset = load_dataset(place.dataset)
        inputs = {name: place.store.folder(child) for name, child in stage.inputs.items()}
        with group_of(stage, stage.key, place) as group:
            stage.build(stage.config, dataset, inputs, fit_context(stage, place, folder, send, group))
            group.barrier()  # all have read the checkpoints, which go when the stage is done
        return dataset

    def build(folder: Path) -> dict[str, Any]:
        started = time.perf_counter()
        if is_shared(stage):
            world.tell(part, str(folder))
        dataset = build_part(folder)
        return {
            "seconds": seconds_so_far(folder, time.perf_counter() - started),
            "peak_memory_mb": peak_memory_mb(),
            **peak_gpu_memory(place.device),
            "threads": place.threads,
            "processes": group_size(stage, place),
            "device": place.device,
            "samples": int(dataset.train.offsets[-1]),
            "created": now(),
            "environment": environment() | gpu(place.device),
        }

    if world.is_main:
        place.store.compute(stage, build)
        world.tell(done)
    else:
        if world.hear_first(part, done) == part:
            build_part(Path(world.hear(part)))
        world.hear(done)


def is_shared(stage: Stage) -> bool:
    """Whether several processes compute the stage together."""
    return "processes" in stage.conditions


def group_size(stage: Stage, place: Place) -> int:
    """How many processes compute the stage."""
    return place.world.size if is_shared(stage) else 1


def group_of(stage: Stage, job: str, place: Place) -> AbstractContextManager[Group]:
    """The processes that compute the stage, or evaluate what it made, while the block lasts."""
    return place.world.joined(job, place.world.device(place.device)) if is_shared(stage) else nullcontext(ALONE)


def seconds_so_far(folder: Path, seconds: float) -> float:
    """The seconds that a stage took; if it went on from a checkpoint, what its epochs took is the better count."""
    trained = sum(row["train_seconds"] + row["score_seconds"] for row in histories(folder))
    return max(seconds, trained)


def fit_context(
    stage: Stage, place: Place, folder: Path, send: Send, group: Group = ALONE, contract: Contract | None = None
) -> FitContext:
    """What the stage's fit gets besides config and data, or under another contract, what its evaluation does."""
    conditions = stage.conditions
    contract = contract or Contract.model_validate(conditions.get("contract", {}))
    released = methods()[stage.kind].released_decoding if stage.kind in methods() else "trie"
    return FitContext(
        seed=stage.seed,
        folder=folder,
        contract=contract,
        is_constrained=(released if contract.decoding == "released" else contract.decoding) in ("trie", "exact"),
        device=place.world.device(place.device),
        precision=conditions["precision"],
        report=send,
        group=group,
    )


def histories(folder: Path) -> list[dict[str, Any]]:
    """The rows of all training histories in a stage's folder, in the order in which the trainings ran."""
    files = sorted(folder.glob("history-*.json"), key=lambda path: path.stat().st_mtime_ns)
    return [row for path in files for row in read_json(path, list)]
