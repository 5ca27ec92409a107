"""The tables of studies on consoles of several widths. Oracle: what a reader must find, whole, in the printed text."""

import io
from dataclasses import replace

import pytest
from made_up_studies import made_up_study
from rich.console import Console

from harness.cli.sweep_tables import studies_table
from sweeps.summaries import StudySummary

NAMES = ("etegrec-scientific2018-grid-lambda-7e209841", "short-study")
HEADINGS = ["Trials", "Done", "Pruned", "Failed", "Epochs", "Time", "MiB", "Best"]


@pytest.fixture(scope="module")
def study() -> StudySummary:
    """One complete, one pruned and one failed trial, made by hand."""
    trials = [({"mu": 0.1}, "complete", 0.125), ({"mu": 0.1}, "pruned", None), ({"mu": 0.1}, "failed", None)]
    cost = {"epochs": 1000, "seconds": 4000.0, "peak_memory_mb": 1500.0}
    return replace(made_up_study(trials, {"mu": [0.1]}, cost=cost), budget=1234)


def printed(study: StudySummary, width: int) -> list[str]:
    text = io.StringIO()
    Console(width=width, file=text).print(studies_table([replace(study, name=name) for name in NAMES], width))
    return text.getvalue().splitlines()


@pytest.mark.parametrize("width", [80, 120, 200])
def test_names_and_numbers_stand_whole_on_lines_that_fit(study: StudySummary, width: int) -> None:
    lines = printed(study, width)
    assert max(map(len, lines)) <= width
    words = [line.split() for line in lines]
    assert words[0][-8:] == HEADINGS
    for name in NAMES:
        (place,) = (place for place, found in enumerate(words) if found and found[0] == name)
        numbers = words[place][1:] or words[place + 1]
        assert (numbers[0], *numbers[1:5], *numbers[-2:]) == ("3/1234", "1", "1", "1", "3,000", "1,500", "0.1250")


def test_a_name_stands_above_its_numbers_only_where_there_is_no_room_beside_them(study: StudySummary) -> None:
    # Eight gaps, and in the order of the columns the longest of heading and numbers.
    room = len(NAMES[0]) + 8 * 2 + 6 + 4 + 6 + 6 + 6 + len("3 h 20 min") + 5 + 6
    assert NAMES[0] in printed(study, room - 1)
    assert not any(line.strip() == NAMES[0] for line in printed(study, room))
