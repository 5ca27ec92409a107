"""One run under everyone's rules: what stored outcomes would have been reported as, and what becomes of the order.

Shape legend: U users, M methods.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from results.errors import ResultsError
from results.statistics.metrics.registry import user_values
from results.store.contract import DEFAULTS
from results.store.epochs import epochs_of, has_epochs
from results.store.outcomes import OUTCOMES_SCHEMA
from results.store.reading import read_ranks
from results.store.runs import Run, read_parquet
from results.store.selection import RowRuns

OURS = "ours"
EXACT = "exact"
BEAMS = (10, 20, 50, 100)
RANK_METRICS = ("Recall", "NDCG", "MRR")
AUDITED_K = 10  # of the lists that are compared with those of exact decoding
_TABLE = [name for name in OUTCOMES_SCHEMA if not isinstance(OUTCOMES_SCHEMA[name], pl.List)]


@dataclass(frozen=True)
class Convention:
    """A way in which papers evaluate."""

    name: str  # heading of its column
    about: str
    values: Callable[[Run, str, int], np.ndarray | None]  # per user, of a metric at k; None: not to be had from the run
    concerns: Callable[[Run], bool] = lambda run: True  # of other runs it says nothing: their value is ours


@dataclass(frozen=True)
class Audit:
    """What each row of a table would report under each convention; nan where that cannot be told."""

    rows: tuple[RowRuns, ...]
    metric: str
    k: int
    conventions: tuple[Convention, ...]  # ours first
    values_MC: np.ndarray  # means over users and seeds
    notes: tuple[str, ...]

    @property
    def inflation_MC(self) -> np.ndarray:
        """By how many per cent each value lies above ours."""
        ours_M1 = self.values_MC[:, :1]
        return 100 * (
            np.divide(self.values_MC, ours_M1, out=np.full_like(self.values_MC, np.nan), where=ours_M1 > 0) - 1
        )

    @property
    def swapped(self) -> list[int]:
        """For each convention, how many pairs of methods stand the other way round; ties count as no way."""
        return [swapped_pairs(self.values_MC[:, 0], values_M) for values_M in self.values_MC.T]

    @property
    def tau(self) -> list[float]:
        """Kendall's tau-b of each convention's order with ours, of the methods that both have; nan for fewer than 2."""
        return [agreement(self.values_MC[:, 0], values_M) for values_M in self.values_MC.T]


def audit(rows: Sequence[RowRuns], metric: str = "NDCG", k: int = 10) -> Audit:
    """The audit of the rows of one table; `ResultsError` where a run has no outcomes.

    A convention of which no row has a value is left out.
    """
    if not rows:
        raise ResultsError("an audit needs finished runs, but got none; make some with: harness run")
    values_MC = np.array([[_mean(row, convention, metric, k) for convention in CONVENTIONS] for row in rows])
    concerned_MC = np.array([[convention.concerns(row.runs[0]) for convention in CONVENTIONS] for row in rows])
    shown = np.flatnonzero((concerned_MC & ~np.isnan(values_MC)).any(axis=0)).tolist()
    conventions = tuple(CONVENTIONS[place] for place in shown)
    notes = [f"{convention.name}: {convention.about}." for convention in conventions]
    notes += [*_missed_notes(rows, k), *_redrawn_notes(rows)]
    return Audit(tuple(rows), metric, k, conventions, values_MC[:, shown], tuple(notes))


def swapped_pairs(first_M: np.ndarray, second_M: np.ndarray) -> int:
    """How many pairs of methods are ordered one way in the first values and the other way in the second."""
    both = [(a, b) for a, b in zip(first_M, second_M, strict=True) if not np.isnan([a, b]).any()]
    return sum((a[0] - b[0]) * (a[1] - b[1]) < 0 for a, b in combinations(both, 2))


def agreement(first_M: np.ndarray, second_M: np.ndarray) -> float:
    """Kendall's tau-b of the methods that have both values; nan where they are fewer than 2, or all tie."""
    known_M = ~np.isnan(first_M) & ~np.isnan(second_M)
    pairs = np.triu_indices(known_M.sum(), 1)
    # By hand for a few methods: SciPy's statistics take longer to import than all the rest of an audit.
    first_P, second_P = (np.sign(np.subtract.outer(v, v)[pairs]) for v in (first_M[known_M], second_M[known_M]))
    untied, other_untied = np.abs(first_P).sum(), np.abs(second_P).sum()
    if not untied or not other_untied:
        return float("nan")
    return float((first_P * second_P).sum() / np.sqrt(untied) / np.sqrt(other_untied))


def expected_values(outcomes: pl.DataFrame, metric: str, k: int, list_length: int) -> np.ndarray:
    """(U,) the metric in expectation over a random order among the items that share the target's codes (METHODS B.11).

    With P items of better sequences and a group of g, the target's rank is any of P + 1 .. P + g.
    """
    ahead_U, group_U, place_U = (
        outcomes[name].to_numpy().astype(np.int64) for name in ("code_ahead", "target_sharers", "code_rank")
    )
    total_U = np.zeros(len(outcomes))
    for step in range(1, k + 1):
        ranks_U = np.where((place_U > 0) & (step <= group_U), ahead_U + step, 0)
        total_U += user_values(ranks_U, metric, k, list_length)
    return total_U / group_U


def missed_share(outcomes: pl.DataFrame, exact: pl.DataFrame) -> float:
    """The share of users of whose true best items, `AUDITED_K`, the search missed one."""
    found, true = (
        frame.sort("user")["items"].list.head(AUDITED_K).list.sort().to_list() for frame in (outcomes, exact)
    )
    return sum(one != other for one, other in zip(found, true, strict=True)) / len(true)


def decoded_path(run: Run, search: int | str) -> Path:
    """Where an audit keeps the outcomes of a run's model under another search: so many beams, or `exact`."""
    return run.folder / f"outcomes-{'beams=' if isinstance(search, int) else ''}{search}.parquet"


def decoded(run: Run, search: int | str) -> pl.DataFrame | None:
    """The outcomes under a search: the run's own, or what an audit kept; None where neither is."""
    contract = run.record.contract
    own = EXACT if contract["decoding"] == EXACT else contract["num_beams"] if contract["decoding"] == "trie" else None
    if run.record.family != "generative" or own == search:
        return run.outcomes()
    path = decoded_path(run, search)
    return read_parquet(path) if path.exists() else None


def mean_under(row: RowRuns, name: str, metric: str, k: int) -> float:
    """The metric of a row under the convention of that name, over users and seeds; nan where it cannot be told."""
    return _mean(row, next(convention for convention in CONVENTIONS if convention.name == name), metric, k)


def _mean(row: RowRuns, convention: Convention, metric: str, k: int) -> float:
    """Over users, then over seeds; nan where a seed has no value."""
    values = [convention.values(run, metric, k) for run in row.runs]
    known = [value for value in values if value is not None]
    return float(np.mean([value.mean() for value in known])) if len(known) == len(values) else float("nan")


def _missed_notes(rows: Sequence[RowRuns], k: int) -> list[str]:
    """What the runs' own beams miss and cost, a line for each row of which an exact search is stored."""
    told = []
    for row in rows:
        if row.record.family != "generative" or row.record.contract["decoding"] == EXACT:
            continue
        pairs = [(run, decoded(run, EXACT)) for run in row.runs]
        kept = [(run, exact) for run, exact in pairs if exact is not None]
        if not kept:
            continue
        missed = 100 * np.mean([missed_share(run.outcomes(), exact) for run, exact in kept])
        shifts = []
        for metric in RANK_METRICS:
            own = np.mean([_own(run, metric, k).mean() for run, _ in kept])
            true = np.mean([value.mean() for run, _ in kept if (value := _read(run, metric, k, {}, EXACT)) is not None])
            shifts.append(f"{metric}@{k} {100 * (true / own - 1):+.2f} %" if own > 0 else f"{metric}@{k} {true:.4f}")
        told.append(
            f"Exact decoding against the beams of {row.label}: these miss one of the true {AUDITED_K} best items of "
            f"{missed:.2f} % of the users; {', '.join(shifts)}."
        )
    return told


def _redrawn_notes(rows: Sequence[RowRuns]) -> list[str]:
    """Which rows were trained again without coming out at the run's own ranks in any epoch."""
    told = []
    for row in rows:
        pairs = [(run.ranks(["rank"])["rank"].to_list(), epochs_of(run)) for run in row.runs]
        if any(epochs is not None and own not in epochs["ranks"].to_list() for own, epochs in pairs):
            told.append(row.label)
    text = (
        "Trained again with other numbers than the run's, on another machine or device, so that the columns of epochs "
        f"are of another fit: {', '.join(told)}."
    )
    return [text] if told else []


def _own(run: Run, metric: str, k: int) -> np.ndarray:
    return user_values(run.ranks(["rank"])["rank"].to_numpy(), metric, k, run.list_length)


def _read(
    run: Run, metric: str, k: int, rules: Mapping[str, Any], search: int | str | None = None
) -> np.ndarray | None:
    """The values by some rules, of the run's own search or another one."""
    outcomes = run.outcomes() if search is None else decoded(run, search)
    if outcomes is None:
        return None
    ranks_U = read_ranks({**DEFAULTS, **rules}, outcomes.select(_TABLE), str(run.folder))
    return user_values(ranks_U, metric, k, run.list_length)


def _by(**rules: Any) -> Callable[[Run, str, int], np.ndarray | None]:
    return lambda run, metric, k: _read(run, metric, k, rules)


def _sampled(candidates: str) -> Callable[[Run, str, int], np.ndarray | None]:
    """Where the scores of all items are known: to methods that score them, and where decoding was exact."""

    def values(run: Run, metric: str, k: int) -> np.ndarray | None:
        for search in (None, EXACT):
            outcomes = run.outcomes() if search is None else decoded(run, search)
            if outcomes is not None and not outcomes["popular_ahead"].null_count():
                return _read(run, metric, k, {"candidates": candidates}, search)
        return None

    return values


def _searched(search: int | str) -> Callable[[Run, str, int], np.ndarray | None]:
    return lambda run, metric, k: _read(run, metric, k, {}, search)


def _expected(run: Run, metric: str, k: int) -> np.ndarray:
    return expected_values(run.outcomes(), metric, k, run.list_length)


def _warm(run: Run, metric: str, k: int) -> np.ndarray:
    return _own(run, metric, k)[run.cases()["target_count"].to_numpy() > 0]


def _last_epoch(run: Run, metric: str, k: int) -> np.ndarray | None:
    values = _values_of_epochs(run, metric, k)
    return None if values is None else values[-1]


def _test_best(run: Run, metric: str, k: int) -> np.ndarray | None:
    values = _values_of_epochs(run, metric, k)
    return None if values is None else max(values, key=np.mean)


def _values_of_epochs(run: Run, metric: str, k: int) -> list[np.ndarray] | None:
    """Of each epoch that an audit's fit kept; the run's own where there are no epochs, None where none was made."""
    if not has_epochs(run):
        return [_own(run, metric, k)]
    epochs = epochs_of(run)
    if epochs is None:
        return None
    return [user_values(np.array(ranks), metric, k, run.list_length) for ranks in epochs["ranks"].to_list()]


def _generates(run: Run) -> bool:
    return run.record.family == "generative"


CONVENTIONS = (
    Convention(OURS, "as the table has it", _own),
    Convention("masked", "items of the history take no ranks", _by(history="removed")),
    Convention("codes", "any item with the target's codes is a hit, each sequence one rank", _by(hit_unit="codes")),
    Convention("CCE", "expectation over a random order among items that share their codes", _expected),
    Convention("first", "the target ranks first among them", _by(ties="first")),
    Convention("last", "the target ranks last among them", _by(ties="last")),
    Convention("uni99", "among 99 items drawn uniformly from outside the history", _sampled("uniform99")),
    Convention("pop99", "among 99 items drawn by their training interactions", _sampled("popular99")),
    Convention("warm", "users whose target training never saw are dropped", _warm),
    Convention(
        "last epoch", "the model of the last epoch, not of the one with the best validation", _last_epoch, has_epochs
    ),
    Convention("test best", "of all validated epochs the one that is best on the test split", _test_best, has_epochs),
    *(Convention(f"beam{n}", f"{n} beams where a method generates", _searched(n), _generates) for n in BEAMS),
    Convention(EXACT, "the true best of all items where a method generates", _searched(EXACT), _generates),
)
