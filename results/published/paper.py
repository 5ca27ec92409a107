"""The numbers that the paper prints in its Tables 2 to 4 (METHODS E.1 to E.3)."""

import csv
from collections.abc import Iterable
from functools import cache
from importlib.resources import files
from typing import NamedTuple

# Our data sets that are the paper's own (A.6); others share at most a name with them.
PAPER_DATASETS = {"instrument": "Instrument", "scientific": "Scientific", "game": "Game"}


class Statistics(NamedTuple):
    """A row of Table 2."""

    users: int
    items: int
    interactions: int
    sparsity_percent: float


Published = dict[tuple[str, str, int], float]  # (row label, metric, k) → value


@cache
def datasets() -> dict[str, Statistics]:
    """Table 2: the paper's data set name → its statistics."""
    return {
        row["dataset"]: Statistics(
            int(row["users"]), int(row["items"]), int(row["interactions"]), float(row["sparsity_percent"])
        )
        for row in _rows("table2_datasets.csv")
    }


@cache
def overall(dataset: str) -> Published:
    """Table 3 for one of the paper's data sets: (model, metric, k) → value."""
    return _metrics("table3_overall.csv", "model", dataset)


@cache
def ablation(dataset: str) -> Published:
    """Table 4 for one of the paper's data sets: (variant, metric, k) → value."""
    return _metrics("table4_ablation.csv", "variant", dataset)


def _metrics(name: str, label: str, dataset: str) -> Published:
    return {
        (row[label], row["metric"], int(row["k"])): float(row["value"])
        for row in _rows(name)
        if row["dataset"] == dataset
    }


def _rows(name: str) -> Iterable[dict[str, str]]:
    return csv.DictReader(text_of(name).splitlines())


def text_of(name: str) -> str:
    """The text of a file beside this module."""
    return files("results").joinpath("published", name).read_text(encoding="utf-8")
