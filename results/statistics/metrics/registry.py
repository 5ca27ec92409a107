"""All metrics by name, and what they say of a run's ranks and lists.

Shape legend: U users.
"""

from collections.abc import Iterable
from functools import cache
from typing import NamedTuple

import numpy as np
import polars as pl

from results.errors import ResultsError
from results.plugins import offered
from results.statistics.metrics.kinds import ListMetric, Metric, PopularityMetric, RankMetric

ENTRY_POINTS = "harness.metrics"


class MetricValue(NamedTuple):
    """A metric of a run; one of ranks is the mean over all users."""

    metric: str
    k: int
    value: float


@cache
def known_metrics() -> dict[str, Metric]:
    """Every metric by name, in the order in which they are shown."""
    found: list[Metric] = []
    for metric in offered("results.statistics.metrics", "METRIC", ENTRY_POINTS):
        if not isinstance(metric, Metric):
            kinds = "RankMetric, ListMetric or PopularityMetric"
            raise ResultsError(f"{ENTRY_POINTS} must give {kinds}, but got {metric!r}")
        found.append(metric)
    return {metric.name: metric for metric in sorted(found, key=lambda metric: (metric.order, metric.name))}


def rank_metrics() -> list[str]:
    """The names of the metrics that have a value per user."""
    return [name for name, metric in known_metrics().items() if isinstance(metric, RankMetric)]


def metric_named(text: str) -> tuple[str, str]:
    """The metric's name, and how it is called in the text (HR is Recall), whatever the case of the letters.

    `ResultsError` for an unknown one.
    """
    called = {name.casefold(): (name, name) for name in known_metrics()}
    for name, metric in known_metrics().items():
        called |= {alias.casefold(): (name, alias) for alias in getattr(metric, "aliases", ())}
    if text.casefold() not in called:
        raise ResultsError(f"unknown metric '{text}'; known: {', '.join(shown for _, shown in called.values())}")
    return called[text.casefold()]


def user_values(ranks_U: np.ndarray, metric: str, k: int, list_length: int) -> np.ndarray:
    """(U,) float64 values of one metric at k.

    Raises `ResultsError` for an unknown metric, for one that has no value per user, and for k greater than the length
    of the stored lists: a target beyond their end has no known rank.
    """
    found = known_metrics().get(metric)
    if not isinstance(found, RankMetric):
        what = "unknown metric" if found is None else "one value per user is needed, which lacks the metric"
        raise ResultsError(f"{what} '{metric}'; known: {', '.join(rank_metrics())}")
    if not 1 <= k <= list_length:
        raise ResultsError(
            f"1 <= k <= list length must hold, but got {metric}@{k} and stored lists of {list_length} items; "
            "lower k, or run again with a larger top_k"
        )
    return found.values(ranks_U, k)


def metrics_from_ranks(ranks_U: np.ndarray, ks: Iterable[int] = (1, 5, 10), *, list_length: int) -> list[MetricValue]:
    """Every metric of ranks at every k, averaged over users; errors as in `user_values`, and for no users at all."""
    if len(ranks_U) == 0:
        raise ResultsError("an evaluation must hold at least one user, but the ranks are empty")
    return [
        MetricValue(metric, k, float(user_values(ranks_U, metric, k, list_length).mean()))
        for metric in rank_metrics()
        for k in ks
    ]


def metrics_from_lists(
    lists: pl.Series, ks: Iterable[int], *, num_items: int, item_counts: np.ndarray | None = None
) -> list[MetricValue]:
    """Every metric of lists at every k, from the users' stored lists, all at least as long as the greatest k.

    `num_items` of the catalog is 0 where it is not known, and so are the (N,) `item_counts` of training where they are
    None; a metric that needs them is then left out.
    """
    ks = list(ks)
    values: list[tuple[str, int, float | None]] = []
    if any(not isinstance(metric, RankMetric) for metric in known_metrics().values()):
        lists_UK = np.stack(lists.to_list())
    for metric in known_metrics().values():
        if isinstance(metric, ListMetric):
            values += [(metric.name, k, metric.value(lists_UK, k, num_items)) for k in ks]
        elif isinstance(metric, PopularityMetric) and item_counts is not None:
            values += [(metric.name, k, metric.value(lists_UK, k, item_counts)) for k in ks]
    return [MetricValue(name, k, float(value)) for name, k, value in values if value is not None]
