"""Oracles: independent parsers (csv, json, html.parser), counts of cells, and lines written out by hand."""

import csv
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from made_up_runs import made_up_ranks, write_made_up_run
from rich.console import Console

from results.errors import ResultsError
from results.store.find import UnfinishedRun
from results.tables.console import RichTable
from results.tables.content import Beside, Table, TableCell, TableColumn, TableRow, Unit
from results.tables.hypertext import html_fragment
from results.tables.render import FORMATS, render, to_csv, to_json, to_latex, to_markdown
from results.terminal.listing import runs_table
from results.terminal.panels import health_lines, run_panel, sparkline
from results.terminal.quantities import duration, size


@pytest.fixture
def table() -> Table:
    cells = (
        TableCell(value=0.12345, std=0.0012, seeds=3, best=True, significant=True, p_value=0.001),
        TableCell(value=0.5, seeds=1, second=True, published=0.51, difference=-0.01),
    )
    return Table(
        caption="Scores on a_b & <c>",
        corner="Method",
        columns=(TableColumn("Recall@5"), TableColumn("NDCG@5")),
        rows=(
            TableRow("w/o SIA&PSA|x", cells),
            TableRow("plain", (TableCell(value=0.1, seeds=1), TableCell(value=None))),
            TableRow("Improvement", (TableCell(value=-3.456), TableCell(value=8.0)), Unit.CHANGE, apart=True),
        ),
        notes=("100 % of p < 0.01 *",),
    )


def test_csv_parses_back_at_full_precision(table: Table) -> None:
    rows = list(csv.DictReader(io.StringIO(to_csv(table))))
    assert len(rows) == 6
    assert (rows[0]["row"], rows[0]["column"], float(rows[0]["value"])) == ("w/o SIA&PSA|x", "Recall@5", 0.12345)
    assert float(rows[1]["difference"]) == -0.01
    assert rows[3]["value"] == ""
    assert rows[4]["unit"] == "change"


def test_json_parses_back_into_an_equal_table(table: Table) -> None:
    content = json.loads(to_json(table))
    assert content.pop("schema") == 2
    rows = tuple(
        TableRow(
            r["label"],
            tuple(TableCell(**c) for c in r["cells"]),
            r["unit"] and Unit(r["unit"]),
            r["apart"],
            beside=tuple(Beside(b["label"], tuple(b["values"])) for b in r["beside"]),
        )
        for r in content.pop("rows")
    )
    columns = tuple(TableColumn(c["name"], Unit(c["unit"]), c["group"]) for c in content.pop("columns"))
    assert Table(rows=rows, columns=columns, notes=tuple(content.pop("notes")), **content) == table


def test_markdown_lines_have_one_width_and_hold_the_marks(table: Table) -> None:
    lines = [line for line in to_markdown(table).splitlines() if line.startswith("|")]
    assert len({len(line) for line in lines}) == 1
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines}) == 1
    assert [cell.strip() for cell in re.split(r"(?<!\\)\|", lines[2])[1:-1]] == [
        r"w/o SIA&PSA\|x",
        r"**0.1235** ± 0.0012\*",
        "<u>0.5000</u>",
    ]
    assert [cell.strip() for cell in lines[4].split("|")[1:-1]] == ["*ours - paper*", "–", "-0.0100"]


def test_latex_rows_have_all_cells_balanced_braces_and_no_bare_special_character(table: Table) -> None:
    text = to_latex(table)
    assert text.count("{") == text.count("}")
    assert text.count("$") % 2 == 0
    body = text.split(r"\midrule", 1)[1].split(r"\bottomrule")[0]
    rows = [line for line in body.splitlines() if line.endswith(r"\\")]
    assert [len(re.findall(r"(?<!\\)&", row)) for row in rows] == [2] * 5
    assert rows[0] == (
        r"w/o SIA\&PSA\textbar{}x & \textbf{0.1235}{\scriptsize$\,\pm\,$0.0012}$^{*}$ & \underline{0.5000} \\"
    )
    assert rows[-1] == r"Improvement & $-$3.46 \% & +8.00 \% \\"
    assert r"\caption{Scores on a\_b \& $<$c$>$}" in text
    assert not re.search(r"(?<!\\)[%#_]", text.split("\n", 1)[1])


class Balance(HTMLParser):
    """Fails on a tag that closes another one; counts what it saw."""

    void = ("meta",)

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.seen.append(tag)
        if tag not in self.void:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_html_is_balanced_escaped_and_loads_nothing_from_elsewhere(table: Table) -> None:
    page = render(table, "html")
    parser = Balance()
    parser.feed(page)
    assert parser.open == []
    assert parser.seen.count("td") == 10
    assert "Scores on a_b & <c>" in parser.text
    assert html_fragment(table) in page
    assert not re.search(r"https?://|src=|url\(", page)


def shown(renderable: object, width: int) -> str:
    console = Console(width=width, file=io.StringIO(), color_system=None)
    with console.capture() as captured:
        console.print(renderable)
    return captured.get()


@pytest.mark.parametrize("width", [80, 120])
def test_a_full_ablation_table_fits_the_terminal_uncut(width: int) -> None:
    cells = tuple(TableCell(value=0.0402, std=0.0003, seeds=3, significant=True) for _ in range(4))
    columns = tuple(TableColumn(name) for name in ("Recall@5", "Recall@10", "NDCG@5", "NDCG@10"))
    text = render(
        Table("Ablation", "Variant", columns, (TableRow("w/o AT + fine-tuning", cells),)), "text", width=width
    )
    assert text.count("0.0402±.0003*") == 4
    assert "w/o AT + fine-tuning" in text
    assert max(map(len, text.splitlines())) <= width


@pytest.mark.parametrize("width", [24, 40])
def test_a_table_without_groups_hides_no_number_in_a_narrow_terminal(width: int) -> None:
    names = [f"NDCG@{k}" for k in range(1, 8)]
    columns = tuple(TableColumn(name) for name in names)
    cells = tuple(TableCell(value=0.1111 * place) for place in range(1, 8))
    text = render(Table("Narrow", "Method", columns, (TableRow("ETEGRec", cells),)), "text", width=width)
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= width
    for place, name in enumerate(names, start=1):
        assert (text.count(name), text.count(f"{0.1111 * place:.4f}")) == (1, 1)


def test_the_terminal_shows_best_in_bold_second_underlined_and_brackets_as_they_are(table: Table) -> None:
    console = Console(width=100, file=io.StringIO(), force_terminal=True, color_system="standard")
    with console.capture() as captured:
        console.print(RichTable(table))
    text = captured.get()
    assert "\x1b[1m0.1235\x1b[0m" in text
    assert "\x1b[4m0.5000\x1b[0m" in text
    assert "¹" not in text
    assert "[new]" in shown(RichTable(Table("[new]", "", (), ())), 80)


def test_an_unknown_format_names_the_known_ones(table: Table) -> None:
    with pytest.raises(ResultsError, match="known: text, markdown, latex, html, csv, json"):
        render(table, "docx")
    assert all(render(table, name) for name in FORMATS)


def test_sparkline_goes_from_least_to_greatest() -> None:
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7]) == "▁▂▃▄▅▆▇█"
    assert sparkline([2.0, 2.0]) == "▁▁"
    assert sparkline([]) == ""
    assert sparkline([1.0, float("nan"), 2.0]) == "▁█"
    assert len(sparkline(range(1000), width=20)) == 20


def test_durations_as_a_person_says_them() -> None:
    assert [duration(s) for s in (9, 59.96, 307, 12_000)] == ["9.0 s", "1 min 00 s", "5 min 07 s", "3 h 20 min"]


def test_the_list_of_runs_fits_80_characters_and_shows_unfinished_runs(tmp_path: Path) -> None:
    run = write_made_up_run(tmp_path, [1, 0], variant="wo-at-finetuned", synthetic=True)
    open_run = UnfinishedRun(tmp_path, "instruments2018", "popularity", "full", "0123456789abcdef", 3)
    taken = sum(len(path.read_bytes()) for path in run.folder.iterdir())
    text = shown(runs_table([run], [open_run]), 80)
    assert [line.split() for line in text.splitlines() if "─" not in line and line.strip()] == [
        ["demo", "(synthetic)"],
        ["Method", "Variant", "Config", "Seed", "Recall@10", "NDCG@10", "Time", "Size"],
        ["tiger", "wo-at-finetuned", "c0ffee00", "0", "0.5000", "0.5000", "5", "min", "22", "s", *size(taken).split()],
        ["instruments2018"],
        ["Method", "Variant", "Config", "Seed", "Recall@10", "NDCG@10", "Time", "Size"],
        ["popularity", "full", "01234567", "3", "–", "–", "unfinished", "–"],
    ]


def test_the_panel_of_a_run_shows_scores_curves_health_cost_and_config(tmp_path: Path) -> None:
    run = write_made_up_run(
        tmp_path,
        made_up_ranks(500, 0.3, 0),
        health={"used_codes": [250, 12], "codebook_size": 256, "collision_rate": 0.015, "odd": 7},
        assumptions=["text vectors: tfidf-svd"],
    )
    text = shown(run_panel(run), 80)
    for expected in (
        "250, 12 of 256",
        "1.50 %",
        "odd",
        "5.0000 → 0.6250",
        "best at epoch 8",
        "5 min 22 s",
        "812 MB",
        "4,117,248",
        "- text vectors: tfidf-svd",
        "mu = 0.0003",
        "decoding",
    ):
        assert expected in text
    assert max(map(len, text.splitlines())) <= 80


def test_both_meanings_of_a_collision_rate_are_told_apart() -> None:
    told = dict(health_lines({"collision_rate": 0.1, "colliding_items": 0.15}))
    assert told == {"collision rate, items beyond tuples": "10.00 %", "collision rate, items that share": "15.00 %"}
