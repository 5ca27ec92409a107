"""A table of results as a value: made by `results.tables.performance`, printed by `results.tables.render`."""

from dataclasses import dataclass, replace
from enum import StrEnum

DECIMALS = 4  # of a metric; values that print alike are equal for "best" and "second"


class Unit(StrEnum):
    """What a value is, and so how it is printed."""

    METRIC = "metric"  # 4 decimals
    COUNT = "count"  # thousands separated
    PERCENT = "percent"  # 3 decimals
    MEAN = "mean"  # 2 decimals
    CHANGE = "change"  # signed per cent, 2 decimals
    SHIFT = "shift"  # signed per cent, 1 decimal, the sign of per cent left to a heading


@dataclass(frozen=True, kw_only=True)
class TableCell:
    """One value, what is known about it, and how it stands among its column."""

    value: float | None  # None: not known
    std: float | None = None  # over seeds, ddof = 1; None for a single seed
    seeds: int = 0
    low: float | None = None  # of the 95 % interval, where one was asked for
    high: float | None = None
    best: bool = False
    second: bool = False
    significant: bool = False  # the table's notes say against what
    p_value: float | None = None
    published: float | None = None  # the paper's value
    difference: float | None = None  # value - published
    config: str | None = None  # digest of the config behind the value


@dataclass(frozen=True)
class Origin:
    """What the values of a column, or of a row, were made from."""

    dataset: str
    fingerprint: str
    contract: str = ""  # its digest
    rules: str = ""  # what the contract says: top_k=10, num_beams=20, ...


@dataclass(frozen=True)
class TableColumn:
    """A heading and the unit of what stands under it; columns side by side with the same `group` stand under it."""

    name: str
    unit: Unit = Unit.METRIC
    group: str = ""
    origin: Origin | None = None


@dataclass(frozen=True)
class Beside:
    """A line below a row: what another source reports, one value per column of the table, None where it has none."""

    label: str
    values: tuple[float | None, ...]


@dataclass(frozen=True)
class TableRow:
    """A label and one cell per column; `unit` and `origin` override the columns'. `apart`: set off by a line.

    Rows that follow each other with the same `section` stand under it as a heading.
    """

    label: str
    cells: tuple[TableCell, ...]
    unit: Unit | None = None
    apart: bool = False
    section: str = ""
    origin: Origin | None = None
    beside: tuple[Beside, ...] = ()


@dataclass(frozen=True)
class Table:
    """Columns, rows, and what a reader must know to judge them."""

    caption: str
    corner: str  # heading of the labels
    columns: tuple[TableColumn, ...]
    rows: tuple[TableRow, ...]
    notes: tuple[str, ...] = ()
    subject: str = ""  # the data set, as the caption names it


def against(cell: TableCell, printed: float | None) -> TableCell:
    """The cell with the paper's value and our difference from it, where there is one."""
    if printed is None or cell.value is None:
        return cell
    return replace(cell, published=float(printed), difference=cell.value - printed)


def format_value(value: float, unit: Unit) -> str:
    """The value as printed."""
    match unit:
        case Unit.METRIC:
            return f"{value:.{DECIMALS}f}"
        case Unit.COUNT:
            return f"{value:,.0f}"
        case Unit.PERCENT:
            return f"{value:.3f} %"
        case Unit.MEAN:
            return f"{value:.2f}"
        case Unit.CHANGE:
            return f"{value:+.2f} %"
        case Unit.SHIFT:
            return f"{value:+.1f}"


def format_difference(difference: float, unit: Unit) -> str:
    """A signed difference in the unit's precision; what rounds to zero is +0."""
    decimals = {Unit.METRIC: DECIMALS, Unit.COUNT: 0, Unit.PERCENT: 3, Unit.SHIFT: 1}.get(unit, 2)
    return f"{round(difference, decimals) + 0.0:+,.{decimals}f}"
