"""The paper's Table 2, made from what is known of prepared data sets."""

from collections.abc import Mapping
from typing import Any

from results.errors import ResultsError
from results.published import paper
from results.published.registry import Registry
from results.tables.content import Beside, Origin, Table, TableCell, TableColumn, TableRow, Unit, against

COLUMNS = (
    TableColumn("Users", Unit.COUNT),
    TableColumn("Items", Unit.COUNT),
    TableColumn("Interactions", Unit.COUNT),
    TableColumn("Sparsity", Unit.PERCENT),
    TableColumn("Length", Unit.MEAN),
)
ELSEWHERE = "published elsewhere"


def datasets_table(
    counts: Mapping[str, Mapping[str, Any]], *, published: bool = False, elsewhere: Registry | None = None
) -> Table:
    """Data set name → `users`, `items`, `interactions`, `fingerprint`, and `synthetic` where the data are made up.

    Sparsity is 100 (1 - interactions / (users items)) per cent. `published`: the paper's counts beside ours.
    `elsewhere`: below ours, the counts that other sources give for a data set of that name.
    """
    if not counts:
        raise ResultsError("a table of data sets needs at least one, but got none; prepare one first")
    rows, notes = [], []
    for name, count in counts.items():
        values = _values(*(int(count[key]) for key in ("users", "items", "interactions")))
        printed = paper.datasets().get(paper.PAPER_DATASETS.get(name, "")) if published else None
        known = (*printed, printed.interactions / printed.users) if printed else (None,) * len(values)
        if published and printed is None:
            notes.append(f"The paper prints no numbers for {name}.")
        others = elsewhere.counts.get(name) if elsewhere and printed is None else None
        if elsewhere and printed is None and others is None:
            notes.append(f"No source that is known here counts {name}; --published-file adds one.")
        cells = tuple(against(TableCell(value=v), p) for v, p in zip(values, known, strict=True))
        label = f"{name} (synthetic)" if count.get("synthetic") else name
        beside = (Beside(ELSEWHERE, _values(*others)),) if others else ()
        rows.append(TableRow(label, cells, origin=Origin(name, str(count.get("fingerprint", ""))), beside=beside))
    notes.append("Length: mean number of interactions of a user.")
    return Table("Statistics of the data sets", "Data set", COLUMNS, tuple(rows), tuple(notes))


def _values(users: int, items: int, interactions: int) -> tuple[float, ...]:
    """Those of the columns."""
    return users, items, interactions, 100.0 * (1.0 - interactions / (users * items)), interactions / users
