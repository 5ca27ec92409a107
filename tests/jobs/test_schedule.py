"""The order in which an experiment's jobs start. Oracle: a clock that jumps, with times measured on demo.

No schedule on two places ends before half of the work, or the longest chain, is done.
"""

from pathlib import Path

import numpy as np
import pytest

from harness.experiment.place import Place, cell_folder, run_key
from harness.experiment.plan import Plan, Settings, make_plan
from harness.experiment.run import jobs_of
from harness.interfaces import Method
from harness.jobs.graph import Event, Job, Observer, run_in
from harness.methods import methods
from harness.testing import planted

# Seconds of each stage of `harness run --ablation all` on demo with the preset lite, on one core.
STAGES = {"text-vectors": 3, "sasrec": 9, "sasrec-vectors": 0.1, "tokenizer": 2, "letter-tokenizer": 36}
FITS = {
    **{
        "Popularity": 0.3,
        "Markov": 0.3,
        "GRU4Rec": 11,
        "SASRec": 12,
        "TIGER": 55,
        "TIGER-SAS": 55,
        "LETTER": 51,
        "ETEGRec": 85,
    },
    **{"ETEGRec w/o SIA": 87, "ETEGRec w/o PSA": 90, "ETEGRec w/o SIA&PSA": 80},
    **{"ETEGRec w/o AT": 93, "ETEGRec w/o AT, fine-tuned": 31, "ETEGRec w/o ETE": 55},
}
TEST = 1
QUIET = Observer(lambda key: None, lambda key, content: None, lambda key, outcome: None)


class JumpingClock:
    """A pool whose jobs take the given seconds, none of which pass."""

    def __init__(self, seconds: dict[str, float]):
        self.seconds = seconds
        self.now = 0.0
        self.running: dict[str, float] = {}
        self.spans: dict[str, tuple[float, float]] = {}

    def start(self, job: Job) -> None:
        self.running[job.key] = self.now + self.seconds[job.key]
        self.spans[job.key] = (self.now, self.running[job.key])

    def hear(self) -> list[Event]:
        key = min(self.running, key=self.running.__getitem__)
        self.now = self.running.pop(key)
        return [Event(key, "done", None)]

    def stop(self) -> None:
        assert not self.running


def scheduled(jobs: dict[str, Job], seconds: dict[str, float], places: int) -> JumpingClock:
    clock = JumpingClock(seconds)
    run_in(clock, jobs, at_once=places, observer=QUIET)
    return clock


def longest_chain(jobs: dict[str, Job], seconds: dict[str, float], key: str) -> float:
    """Seconds from the first start to the end of a job, if nothing ever waited for a place."""
    return seconds[key] + max((longest_chain(jobs, seconds, need) for need in jobs[key].needs), default=0.0)


def everything(seeds: int) -> Plan:
    return make_plan(
        planted.planted_dataset(),
        method_names=["popularity", "markov", "gru4rec", "sasrec", "tiger", "tiger-sas", "letter", "etegrec"],
        ablation_names=list(methods()["etegrec"].ablations),
        seeds=range(seeds),
        settings=Settings(tables={name: {"text": {"dim": 8}} for name in ("tiger", "letter")}),  # of 12 items
    )


def jobs_and_seconds(plan: Plan, root: Path) -> tuple[dict[str, Job], dict[str, float]]:
    place = Place(root / "data", root / "cache", root / "runs")
    jobs = jobs_of(plan.cells, {cell.fit.key: cell_folder(cell, "demo", place.runs) for cell in plan.cells}, place)
    seconds = {stage.key: float(STAGES[stage.kind]) for stage in plan.stages if stage.kind in STAGES}
    seconds |= {cell.fit.key: float(FITS[cell.label.removesuffix(f", seed {cell.seed}")]) for cell in plan.cells}
    return jobs, seconds | {run_key(cell): float(TEST) for cell in plan.cells}


@pytest.mark.parametrize(("seeds", "places", "limit"), [(1, 2, 1.05), (1, 3, 1.1), (3, 8, 1.1)])
def test_methods_and_ablations_end_about_as_early_as_they_can(
    tmp_path: Path, seeds: int, places: int, limit: float
) -> None:
    jobs, measured = jobs_and_seconds(everything(seeds), tmp_path)
    generator = np.random.default_rng(0)
    for _ in range(20):  # the times of another machine
        seconds = {key: value * generator.uniform(0.8, 1.25) for key, value in measured.items()}
        bound = max(sum(seconds.values()) / places, *(longest_chain(jobs, seconds, key) for key in jobs))
        assert scheduled(jobs, seconds, places).now <= limit * bound


def test_the_last_long_fit_does_not_run_alone(tmp_path: Path) -> None:
    plan = everything(1)
    clock = scheduled(*jobs_and_seconds(plan, tmp_path), 2)
    (rebuilt,) = (cell.fit.key for cell in plan.cells if cell.ablation.name == "ete")
    begin, end = clock.spans[rebuilt]
    overlaps = (min(end, other_end) - max(begin, other) for other, other_end in clock.spans.values())
    beside = sum(max(0.0, overlap) for overlap in overlaps) - (end - begin)
    assert beside >= 0.95 * (end - begin)


def test_a_guess_of_the_effort_needs_only_a_config_and_is_never_negative() -> None:
    for method in methods().values():
        for config in method.presets.values():
            for change in (lambda config: config, *(ablation.change for ablation in method.ablations.values())):
                assert 0 <= method.effort(change(config)) < float("inf")


def test_a_method_that_tells_no_effort_goes_before_all_that_do() -> None:
    known = methods()["etegrec"]
    silent = Method("silent", "Silent", known.config, known.fit, known.load)
    assert silent.effort(known.presets["paper"]) > known.effort(known.presets["paper"])
