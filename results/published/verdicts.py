"""Published figures against our runs: under the same rules or not, how far apart, and what follows.

Rules are compared as far as a source states them; what it does not state is told beside the verdict.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from results.errors import ResultsError
from results.published.registry import Figure, Rules
from results.statistics.inference import error_over_users, mean_over_seeds
from results.store.find import RunFilter, find_runs, refuse_several_datasets
from results.store.reading import is_plain, read_as
from results.store.runs import CASES, OUTCOMES, Run
from results.store.schema import RunRecord
from results.store.selection import RowRuns, chosen_configs

NEAR = 5.0  # per cent of the published value within which it counts as reproduced
# Rules of a contract that no source of the registry has otherwise than so.
COMMON = {"candidates": "all", "hit_unit": "item", "cold_targets": "kept"}


@dataclass(frozen=True, kw_only=True)
class Check:
    """What a run of ours says of a figure."""

    figure: Figure
    ours: str | None = None  # label of our row; None: there is none
    preset: str = ""  # of that row
    history_removed: bool = False  # from our ranking
    seeds: int = 0
    value: float | None = None
    percent: float | None = None  # 100 (ours - theirs) / theirs
    standard_errors: float | None = None  # (ours - theirs) / standard error of that difference
    differences: tuple[str, ...] = ()  # between the rules
    unstated: tuple[str, ...] = ()  # rules that the source does not state
    verdict: str


def checks(rows: Sequence[RowRuns], figures: Iterable[Figure], max_history: int | None = None) -> list[Check]:
    """A check for each figure, against the row of the method whose rules differ least.

    `max_history` is how many items of a history our data keep; None: not known.
    """
    longest = {id(row): longest_history(row.runs[0]) for row in rows}
    made = []
    for figure in figures:
        own = [row for row in rows if _is_of(figure, row.record)]
        told = [(row, differences(figure.rules, row.record, longest[id(row)], max_history)) for row in own]
        if not told:
            made.append(Check(figure=figure, verdict="no run of ours"))
            continue
        row, differing = min(told, key=lambda one: len(one[1]))
        made.append(_check(figure, row, differing))
    return made


def rows_of(runs_dir: Path, dataset: str, configs: Sequence[str] = (), preset: str | None = None) -> list[RowRuns]:
    """The rows of a data set under every contract, and read without the history where outcomes are stored.

    `ResultsError` as for a table.
    """
    runs = find_runs(runs_dir, RunFilter(dataset=dataset, preset=preset))
    refuse_several_datasets(runs, dataset)
    plain = [run for run in runs if is_plain(run.record.contract) and (run.folder / OUTCOMES).exists()]
    runs += [read_as(run, {"history": "removed"}) for run in plain]
    by_row: dict[tuple[str, str, str], list[Run]] = {}
    for run in runs:
        record = run.record
        by_row.setdefault((record.contract_digest, record.method, record.variant), []).append(run)
    rows = [row for candidates in by_row.values() for row in chosen_configs(candidates, configs)[0]]
    return sorted(rows, key=lambda row: row.place)


def differences(theirs: Rules, record: RunRecord, longest: int, max_history: int | None = None) -> list[str]:
    """How a source's stated rules differ from those of a run of ours, each as a clause.

    `longest` is the longest history that our methods were given: a limit that no history reaches makes no difference.
    """
    contract = record.contract
    found = []
    if record.split != "leave-one-out":
        found.append(f"ours is split by {record.split}")
    masked = _removes_history(record)
    if theirs.history_masked is not None and theirs.history_masked != masked:
        found.append(
            "items of the history are left out of the ranking there, not here"
            if theirs.history_masked
            else "items of the history are left out of the ranking here, not there"
        )
    if theirs.max_history is not None:
        is_cut = max_history is not None and longest >= max_history and max_history < theirs.max_history
        if longest > theirs.max_history or is_cut:
            ours = max_history or longest
            found.append(f"histories have at most {theirs.max_history} items there, {ours} here")
    if _is_generative(record) and theirs.beams not in (None, contract["num_beams"]):
        found.append(f"{theirs.beams} beams there, {contract['num_beams']} here")
    found += [
        f"{name.replace('_', ' ')} {contract[name]} here"
        for name, usual in COMMON.items()
        if contract.get(name, usual) != usual
    ]
    return found


def unstated(rules: Rules, record: RunRecord) -> list[str]:
    """The rules that a source does not state."""
    told = {"history left out or not": rules.history_masked, "longest history": rules.max_history}
    told |= {"beams": rules.beams} if _is_generative(record) else {}
    return [name for name, value in told.items() if value is None]


def _removes_history(record: RunRecord) -> bool:
    return record.contract.get("history", "kept") == "removed"


def _is_generative(record: RunRecord) -> bool:
    return record.family == "generative"


def _is_of(figure: Figure, record: RunRecord) -> bool:
    wanted = record.variant_title if record.variant != "full" else ""
    return figure.method.casefold() == record.title.casefold() and figure.ablation == wanted


def longest_history(run: Run) -> int:
    """The items of the longest history that the methods were given; 0 for a run that did not keep it."""
    if not (run.folder / CASES).exists():
        return 0
    return int(run.cases()["history_length"].max())  # type: ignore[arg-type]


def _check(figure: Figure, row: RowRuns, differing: Sequence[str]) -> Check:
    try:
        values_SU = row.values(figure.metric, figure.k)
    except ResultsError:
        length = row.runs[0].list_length
        return Check(figure=figure, ours=row.label, verdict=f"not comparable, because our lists end at {length} places")
    value = float(values_SU.mean())
    percent = 100.0 * (value - figure.value) / figure.value if figure.value else None
    error = math.hypot(_own_error(values_SU, row.owners), _their_error(figure))
    return Check(
        figure=figure,
        ours=row.label,
        preset=row.record.preset,
        history_removed=_removes_history(row.record),
        seeds=len(values_SU),
        value=value,
        percent=percent,
        standard_errors=(value - figure.value) / error if error else None,
        differences=tuple(differing),
        unstated=tuple(unstated(figure.rules, row.record)),
        verdict=_verdict(percent, differing),
    )


def _verdict(percent: float | None, differing: Sequence[str]) -> str:
    if differing:
        return f"not comparable, because {'; '.join(differing)}"
    if percent is None:
        return "not comparable, because the published value is 0"
    if abs(percent) <= NEAR:
        return f"reproduced within {NEAR:.0f} %"
    return "above" if percent > 0 else "below"


def _own_error(values_SU: np.ndarray, owners_U: np.ndarray | None) -> float:
    """The standard error of our mean: over users, and over seeds where there are several."""
    over_users = error_over_users(mean_over_seeds(values_SU), owners_U) ** 2
    over_seeds = float(values_SU.mean(axis=1).var(ddof=1)) / len(values_SU) if len(values_SU) > 1 else 0.0
    return math.sqrt(over_users + over_seeds)


def _their_error(figure: Figure) -> float:
    """The standard error of the source's mean over seeds; 0 where it does not tell."""
    return figure.std / math.sqrt(figure.seeds) if figure.std is not None and figure.seeds else 0.0
