"""Figures that others published, one row a figure: who reports it, of what kind the source is, and under what rules.

The files beside this module hold them: the paper's Tables 3 and 4, and `elsewhere.csv`, a line a method and source. A
file of one's own has the columns of `elsewhere.csv`; source, kind, dataset, method and one metric must be there.
"""

import csv
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import NamedTuple

from results.errors import ResultsError
from results.published import paper
from results.statistics.metrics.registry import metric_named

KINDS = ("paper", "repository", "reproduction", "transcription")
ELSEWHERE = "elsewhere.csv"
REQUIRED = ("source", "kind", "dataset", "method")
OTHERS = ("reference", "variant", "seeds", "max_history", "beams", "history_masked", "note")
COUNTS = ("users", "items", "interactions")
METRIC = re.compile(r"([A-Za-z]\w*)@(\d+)")


class Counts(NamedTuple):
    """What a data set is recognised by."""

    users: int
    items: int
    interactions: int


@dataclass(frozen=True)
class Rules:
    """How a figure was made, as far as its source says; None: it does not."""

    history_masked: bool | None = None  # items of the history take no ranks
    max_history: int | None = None  # items
    beams: int | None = None  # of a generative method


# Of the paper: METHODS A.5 and A.8.
PAPER_RULES = Rules(history_masked=False, max_history=50)
PAPER_BEAMS = dict.fromkeys(("SID", "CID", "TIGER", "TIGER-SAS", "LETTER", "ETEGRec"), 20)  # of its generative methods


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A number that a source reports for a method on a data set."""

    source: str
    reference: str = ""
    kind: str  # one of KINDS
    dataset: str
    method: str  # as the source calls it
    variant: str = ""  # of the method, as the source tells it
    ablation: str = ""  # of the paper's Table 4; empty: the whole method
    metric: str
    k: int
    value: float
    std: float | None = None  # over seeds
    seeds: int | None = None
    rules: Rules = field(default_factory=Rules)
    note: str = ""

    @property
    def is_of_the_paper(self) -> bool:
        """Whether it stands in the paper that this harness reproduces."""
        return self.source == PAPER_SOURCE

    @property
    def label(self) -> str:
        """The source, and which variant of the method it is."""
        return f"{self.source}, {self.variant}" if self.variant else self.source


PAPER_SOURCE = "ETEGRec paper"


@dataclass(frozen=True)
class Registry:
    """All figures, and the counts of the data sets that they are of."""

    figures: tuple[Figure, ...]
    counts: Mapping[str, Counts]

    def of(self, dataset: str | None, *, paper: bool = True, elsewhere: bool = True) -> list[Figure]:
        """The figures of a data set, or of all; those of the paper, those from elsewhere, or both."""
        wanted = {True: paper, False: elsewhere}
        return [f for f in self.figures if dataset in (None, f.dataset) and wanted[f.is_of_the_paper]]

    def recognised(self, users: int, items: int, interactions: int | None = None) -> str | None:
        """The data set with these counts; None where there is none. Interactions may be unknown."""
        for name, counts in self.counts.items():
            if counts[:2] == (users, items) and interactions in (None, counts.interactions):
                return name
        return None


def reports(figures: Iterable[Figure]) -> list[list[Figure]]:
    """The figures that stand together: of one source, reference, method and variant, each metric once.

    A source that gives a metric several times, as of several attempts, makes several reports.
    """
    by_place: dict[tuple[str, ...], list[list[Figure]]] = {}
    for figure in figures:
        place = (figure.source, figure.reference, figure.dataset, figure.method, figure.variant)
        column = (figure.metric, figure.k)
        members = by_place.setdefault(place, [])
        room = next((one for one in members if all((f.metric, f.k) != column for f in one)), None)
        if room is None:
            members.append([figure])
        else:
            room.append(figure)
    return [report for members in by_place.values() for report in members]


def registry(own: Path | None = None) -> Registry:
    """The shipped figures, and those of a file of one's own; `ResultsError` names a line that breaks a rule."""
    shipped = _shipped()
    if own is None:
        return shipped
    try:
        text = own.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ResultsError(f"{own}: must be UTF-8 text, but byte {error.start} is not; save it as UTF-8") from None
    lines = _lines(text, str(own))
    counts = dict(shipped.counts) | _counts_in(lines, str(own))
    for number, line in lines:
        if line["dataset"] not in counts:
            raise ResultsError(
                f"{own}:{number}: data set '{line['dataset']}' must be one of {', '.join(counts)}, or come with its "
                "counts in the columns users, items, interactions"
            )
    return Registry(shipped.figures + tuple(_figures(lines, str(own))), counts)


@cache
def _shipped() -> Registry:
    rows = csv.DictReader(paper.text_of("datasets.csv").splitlines())
    counts = {row["dataset"]: Counts(*(int(row[name]) for name in COUNTS)) for row in rows}
    return Registry((*_of_the_paper(), *_figures(_lines(paper.text_of(ELSEWHERE), ELSEWHERE), ELSEWHERE)), counts)


def _of_the_paper() -> list[Figure]:
    """Tables 3 and 4; the whole method's row of Table 4 is the one of Table 3."""
    made = []
    for ours, theirs in paper.PAPER_DATASETS.items():
        for reference, table in (("Table 3", paper.overall(theirs)), ("Table 4", paper.ablation(theirs))):
            for (label, metric, k), value in table.items():
                is_ablation = reference == "Table 4"
                if is_ablation and label == "ETEGRec":
                    continue
                method = "ETEGRec" if is_ablation else label
                made.append(
                    Figure(
                        source=PAPER_SOURCE,
                        reference=f"arXiv 2409.05546v3, {reference}",
                        kind="paper",
                        dataset=ours,
                        method=method,
                        variant=label if is_ablation else "",
                        ablation=label if is_ablation else "",
                        metric=metric,
                        k=k,
                        value=value,
                        rules=replace(PAPER_RULES, beams=PAPER_BEAMS.get(method)),
                    )
                )
    return made


Line = tuple[int, dict[str, str]]  # its number in the file, column → text


def _lines(text: str, where: str) -> list[Line]:
    """The lines of a file of figures, its columns checked."""
    reader = csv.DictReader(text.splitlines())
    columns = [name.strip() for name in reader.fieldnames or ()]
    reader.fieldnames = columns
    missing = [name for name in REQUIRED if name not in columns]
    if missing or not any(METRIC.fullmatch(name) for name in columns):
        lacking = ", ".join(
            [*missing, *([] if any(map(METRIC.fullmatch, columns)) else ["a metric such as recall@10"])]
        )
        raise ResultsError(f"{where}: a file of published figures must have the columns {', '.join(REQUIRED)} and a "
                           f"metric, but lacks {lacking}")  # fmt: skip
    known = {*REQUIRED, *OTHERS, *COUNTS}
    for name in columns:
        plain = name.removesuffix("_sd")
        if name not in known and not METRIC.fullmatch(plain):
            raise ResultsError(
                f"{where}: unknown column '{name}'; known: {', '.join(sorted(known))}, METRIC@K, METRIC@K_sd"
            )
        if name not in known:
            metric_named(METRIC.fullmatch(plain)[1])  # type: ignore[index]
    made = []
    for line in reader:
        if None in line or None in line.values():
            raise ResultsError(f"{where}:{reader.line_num}: must have {len(columns)} fields, but has another number")
        made.append((reader.line_num, {name: (text or "").strip() for name, text in line.items()}))
    return made


def _figures(lines: Iterable[Line], where: str) -> list[Figure]:
    made = []
    for number, line in lines:
        place = f"{where}:{number}"
        for name in REQUIRED:
            if not line[name]:
                raise ResultsError(f"{place}: {name} must be given, but is empty")
        if line["kind"] not in KINDS:
            raise ResultsError(f"{place}: kind must be one of {', '.join(KINDS)}, but is '{line['kind']}'")
        about = {name: line.get(name, "") for name in (*REQUIRED, "reference", "variant", "note")}
        rules = Rules(_yes_or_no(line, place), _count(line, "max_history", place), _count(line, "beams", place))
        for name in line:
            found = METRIC.fullmatch(name)
            if found is not None and line[name]:
                made.append(
                    Figure(
                        **about,
                        metric=metric_named(found[1])[0],
                        k=int(found[2]),
                        value=_share(line[name], name, place),
                        std=_share(spread, f"{name}_sd", place) if (spread := line.get(f"{name}_sd", "")) else None,
                        seeds=_count(line, "seeds", place),
                        rules=rules,
                    )
                )
    return made


def _counts_in(lines: Sequence[Line], where: str) -> dict[str, Counts]:
    """The counts of the data sets that a file brings along."""
    found = {}
    for number, line in lines:
        given = [_count(line, name, f"{where}:{number}") for name in COUNTS]
        if all(count is not None for count in given):
            found[line["dataset"]] = Counts(*(count or 0 for count in given))
    return found


def _share(text: str, name: str, place: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise ResultsError(f"{place}: {name} must be a share from 0 to 1, but is '{text}'; divide per cents by 100")
    return value


def _count(line: Mapping[str, str], name: str, place: str) -> int | None:
    text = line.get(name, "")
    if text and not text.isdecimal():
        raise ResultsError(f"{place}: {name} must be a whole number or empty, but is '{text}'")
    return int(text) if text else None


def _yes_or_no(line: Mapping[str, str], place: str) -> bool | None:
    text = line.get("history_masked", "").lower()
    if text not in ("", "yes", "no"):
        raise ResultsError(f"{place}: history_masked must be yes, no or empty, but is '{text}'")
    return {"yes": True, "no": False}.get(text)
