"""The report page. Oracles: the tables' own values, an HTML parser of the standard library, arithmetic by hand."""

import base64
import csv
import io
import re
import sys
from functools import partial
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from made_up_runs import made_up_history, made_up_ranks, write_made_up_run

from results.report import gather, page_of
from results.report.blocks import DataCell, DataColumn, DataRow, DataTable, Picture
from results.report.html import element
from results.report.page import Page, Section
from results.report.verdicts import against_paper, contest, summary
from results.statistics.inference import paired_t_test
from results.store.schema import cases_frame
from results.tables.performance import View, ablation_table, overall_table

NUM_USERS = 400
HOSTILE = "<script>alert('&\")</script>"


@pytest.fixture
def pictures():
    """Asked for by the tests that draw."""


@pytest.fixture(autouse=True)
def _undrawn(request, monkeypatch):
    """No matplotlib where no pictures are asked for: drawing takes most of the time that a page takes."""
    if "pictures" not in request.fixturenames:
        monkeypatch.setitem(sys.modules, "matplotlib", None)


class Parsed(HTMLParser):
    """What a browser would see: tags with attributes, texts by tag, and whether every tag is closed in order."""

    def __init__(self, page: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.open: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "link", "img", "source"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append((self.open[-1] if self.open else "", data))

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]

    def download(self, file):
        """The content of a file that the page holds."""
        (link,) = [a for a in self.all("a") if a.get("download") == file]
        return base64.b64decode(link["href"].partition(",")[2]).decode()


def write_methods(runs, **changes):
    """Popularity, SASRec and ETEGRec with two ablations; SASRec is far above, the ablations are like ETEGRec."""
    for method, title, share, seed in (
        ("popularity", "Popularity", 0.05, 1),
        ("sasrec", "SASRec", 0.60, 2),
        ("etegrec", "ETEGRec", 0.30, 3),
    ):
        ranks = made_up_ranks(NUM_USERS, share, seed)
        write_made_up_run(runs, ranks, method=method, title=title, variant_title=title, **changes)
    for variant, title, seed in (("wo-sia", "w/o SIA", 4), ("wo-at-finetuned", "w/o AT, fine-tuned", 5)):
        ranks = made_up_ranks(NUM_USERS, 0.31, seed)
        given = {"method": "etegrec", "title": "ETEGRec", "variant": variant, "variant_title": title} | changes
        write_made_up_run(runs, ranks, **given)


def page_text(runs, dataset="demo"):
    return page_of(gather(runs, dataset)).html()


def test_every_tag_is_closed_every_id_is_used_once_and_every_link_leads_somewhere(tmp_path):
    write_methods(tmp_path)
    parsed = Parsed(page_text(tmp_path))
    assert parsed.open == []
    ids = [attributes["id"] for _, attributes in parsed.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    inner = [a["href"][1:] for a in parsed.all("a") if a["href"].startswith("#")]
    assert set(inner) <= set(ids)
    named = [a["aria-labelledby"] for _, a in parsed.tags if "aria-labelledby" in a]
    assert named
    assert set(named) <= set(ids)


def test_nothing_is_fetched_and_no_handler_stands_in_the_markup(tmp_path):
    write_methods(tmp_path)
    parsed = Parsed(page_text(tmp_path))
    for tag, attributes in parsed.tags:
        assert not [name for name in attributes if name.startswith("on") or name == "style"], tag
        for name in ("src", "href"):
            assert (attributes.get(name) or "#").startswith(("#", "data:"))
    (policy,) = [a["content"] for a in parsed.all("meta") if a.get("http-equiv")]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


@pytest.mark.parametrize("field", ["dataset", "title", "variant_title", "device", "preset"])
def test_a_hostile_name_is_shown_and_not_run(tmp_path, field):
    name = HOSTILE.replace("/", "∕") if field == "dataset" else HOSTILE  # a data set's name is a folder's
    shown = {field: name}
    write_methods(tmp_path) if field != "dataset" else None
    ranks = made_up_ranks(NUM_USERS, 0.2, 9)
    given = {"method": "etegrec", "variant": "wo-at", "assumptions": [HOSTILE], "health": {"used_codes": [HOSTILE]}}
    write_made_up_run(tmp_path, ranks, **(given | {"title": "ETEGRec", "variant_title": "w/o AT"} | shown))
    parsed = Parsed(page_text(tmp_path, name if field == "dataset" else "demo"))
    assert parsed.open == []
    assert len(parsed.all("script")) == 1
    assert any(name in text for tag, text in parsed.texts if tag not in ("script", "style"))


def test_the_same_runs_give_the_same_bytes(tmp_path, pictures):
    write_methods(tmp_path)
    assert page_text(tmp_path) == page_text(tmp_path)


@pytest.mark.parametrize("kind", ["overall", "ablation"])
def test_every_value_on_the_page_is_the_tables_own(tmp_path, kind):
    write_methods(tmp_path)
    for seed in (1, 2):  # so that ± is shown too
        ranks = made_up_ranks(NUM_USERS, 0.3, 30 + seed)
        write_made_up_run(tmp_path, ranks, method="etegrec", title="ETEGRec", variant_title="ETEGRec", seed=seed)
    make, file = {
        "overall": (overall_table, "leaderboard.csv"),
        "ablation": (partial(ablation_table, method="etegrec"), "ablation-etegrec.csv"),
    }[kind]
    table = make(tmp_path, "demo", view=View(intervals=True))
    page = page_text(tmp_path)
    lines = {(line["row"], line["column"]): line for line in csv.DictReader(io.StringIO(Parsed(page).download(file)))}
    for row in table.rows:
        for column, cell in zip(table.columns, row.cells, strict=True):
            line = lines.pop((row.label, column.name))
            for field in ("value", "std", "low", "high", "p_value"):
                known = getattr(cell, field)
                assert line[field] == ("" if known is None else repr(known))
            if row.unit is None:
                assert f'data-value="{cell.value!r}"' in page
                assert f"{cell.value:.4f}" in page
                assert f"[{cell.low:.4f}, {cell.high:.4f}]" in page
    assert lines == {}


def test_the_summary_names_the_leader_its_lead_and_the_p_value(tmp_path):
    write_methods(tmp_path)
    material = gather(tmp_path, "demo")
    groups = material.overall.groups
    by_hand = {}
    for title, run in ((title, group.runs[0]) for title, group in groups.items()):
        ranks = run.ranks()["rank"].to_numpy().astype(float)
        by_hand[title] = np.where(ranks > 0, 1 / np.log2(np.maximum(ranks, 1) + 1), 0.0)
    gap = by_hand["SASRec"].mean() - by_hand["ETEGRec"].mean()
    first = summary(material)[0]
    assert first.startswith(f"SASRec leads on NDCG@10: {by_hand['SASRec'].mean():.4f}, {gap:.4f} ")
    found = contest(("SASRec", groups["SASRec"]), ("ETEGRec", groups["ETEGRec"]))
    assert found.p_value == paired_t_test(by_hand["SASRec"], by_hand["ETEGRec"]).p_value
    assert "beyond chance among users (p < 0.0001)" in first
    assert any(line.startswith("One seed per row") for line in summary(material))


def test_equal_methods_are_told_to_be_no_better_than_chance(tmp_path):
    ranks = made_up_ranks(NUM_USERS, 0.3, 1)
    for method, title in (("tiger", "TIGER"), ("letter", "LETTER")):
        write_made_up_run(tmp_path, ranks, method=method, title=title, variant_title=title)
    assert "not beyond chance among users (p = 1, where p < 0.01 is asked for)" in summary(gather(tmp_path, "demo"))[0]


def test_a_gap_that_seeds_may_explain_is_said_to_be_one(tmp_path):
    """On average TIGER leads, in every user alike, but one of its two seeds is the worst of all."""
    for method, title, shares in (("tiger", "TIGER", (0.95, 0.05)), ("letter", "LETTER", (0.3, 0.3))):
        for seed, share in enumerate(shares):
            ranks = made_up_ranks(4000, share, seed)
            write_made_up_run(tmp_path, ranks, method=method, title=title, variant_title=title, seed=seed)
    first = summary(gather(tmp_path, "demo"))[0]
    assert first.startswith("TIGER leads")
    assert "beyond chance among users (p < 0.0001, though seeds alone may explain it)" in first


def test_what_goes_against_the_paper_is_told_and_what_agrees_is_not(tmp_path):
    """The paper has SASRec below ETEGRec on all data sets, and every variant below it (its Tables 3 and 4)."""
    write_methods(tmp_path / "against")
    told = " ".join(against_paper(gather(tmp_path / "against", "demo")))
    assert "SASRec is above ETEGRec, beyond chance among users; in the paper it is below" in told
    assert "Popularity" not in told  # the paper has no such row
    assert "No variant is below ETEGRec beyond chance" in told
    assert "w/o AT, fine-tuned" not in told  # it scored above, but the paper has no such row either
    for method, title, variant, share in (
        ("sasrec", "SASRec", "full", 0.1),
        ("etegrec", "ETEGRec", "full", 0.9),
        ("etegrec", "w/o SIA", "wo-sia", 0.2),
    ):
        ranks = made_up_ranks(NUM_USERS, share, 7)
        name = "ETEGRec" if method == "etegrec" else title
        write_made_up_run(tmp_path / "like", ranks, method=method, title=name, variant=variant, variant_title=title)
    assert against_paper(gather(tmp_path / "like", "demo")) == []


def test_sections_are_left_out_where_there_is_nothing_to_show(tmp_path):
    write_made_up_run(tmp_path / "one", made_up_ranks(50, 0.3, 1), method="markov", title="Markov")
    titles = [section.title for section in page_of(gather(tmp_path / "one", "demo")).sections]
    for absent in ("Ablations", "Tokenizer health", "Published numbers", "Slices", "Reproduction"):
        assert absent not in titles
    assert {"Summary", "What was run", "Leaderboard", "Cost", "Tuning"} <= set(titles)
    write_methods(tmp_path / "all", dataset="scientific2018")
    titles = [section.title for section in page_of(gather(tmp_path / "all", "scientific2018")).sections]
    assert {"Ablations", "Published numbers"} <= set(titles)


def test_a_namesake_of_the_papers_data_is_compared_and_said_to_be_other_data(tmp_path):
    write_methods(tmp_path, dataset="scientific2018", preset="lite")
    parsed = Parsed(page_text(tmp_path, "scientific2018"))
    text = " ".join(text for _, text in parsed.texts)
    assert "scientific2018 is other data than the paper's Scientific." in text
    assert "Not at the paper's sizes and schedules: preset lite." in text
    lines = list(csv.DictReader(io.StringIO(parsed.download("published-overall.csv"))))
    (line,) = [one for one in lines if (one["row"], one["column"]) == ("ETEGRec", "Recall@10")]
    assert line["paper"] == "0.0455"  # METHODS E.2
    assert float(line["difference"]) == pytest.approx(float(line["ours"]) - 0.0455, abs=1e-15)


def test_runs_without_the_full_method_have_ablations_and_no_leaderboard(tmp_path):
    for variant, title in (("wo-sia", "w/o SIA"), ("wo-psa", "w/o PSA")):
        ranks = made_up_ranks(NUM_USERS, 0.3, 1)
        write_made_up_run(tmp_path, ranks, method="etegrec", title="ETEGRec", variant=variant, variant_title=title)
    titles = [section.title for section in page_of(gather(tmp_path, "demo")).sections]
    assert "Ablations" in titles
    assert "Leaderboard" not in titles


def test_costs_are_means_over_seeds(tmp_path):
    for seed, seconds in ((0, 100.0), (1, 300.0)):
        write_made_up_run(tmp_path, made_up_ranks(50, 0.3, seed), seed=seed, seconds={"fit": seconds, "test": 1.0})
    (line,) = csv.DictReader(io.StringIO(Parsed(page_text(tmp_path)).download("cost.csv")))
    assert (line["fit"], line["test"], line["Total"]) == ("200.0", "1.0", "201.0")
    assert float(line["Epochs"]) == made_up_history()["epoch"].n_unique()


def test_slices_stand_beside_each_other_where_runs_kept_what_users_are_cut_by(tmp_path):
    cases = cases_frame(np.arange(NUM_USERS) % 12 + 1, np.full(NUM_USERS, 3))
    for method, title, share in (("markov", "Markov", 0.5), ("sasrec", "SASRec", 0.3)):
        ranks = made_up_ranks(NUM_USERS, share, 1)
        write_made_up_run(tmp_path, ranks, cases, method=method, title=title, variant_title=title)
    material = gather(tmp_path, "demo")
    assert [table.caption for table in material.slices] == ["Overall performance on demo, by length of the history"]
    page = Parsed(page_of(material).html())
    lines = list(csv.DictReader(io.StringIO(page.download("slices-1.csv"))))
    short = [one for one in lines if one["section"] == "History: 1–5 items" and one["column"] == "Recall@10"]
    is_short = np.arange(NUM_USERS) % 12 < 5
    expected = (made_up_ranks(NUM_USERS, 0.5, 1)[is_short] > 0).mean()
    assert float({one["row"]: one["value"] for one in short}["Markov"]) == pytest.approx(expected)


def test_the_csv_of_a_curve_holds_the_history(tmp_path):
    run = write_made_up_run(tmp_path, made_up_ranks(50, 0.3, 1))
    lines = pl.read_csv(io.StringIO(Parsed(page_text(tmp_path)).download("training.csv")))
    losses = run.history().filter(pl.col("quantity") == "loss/total")["value"].to_list()
    assert lines.filter(pl.col("quantity") == "loss/total")["value"].to_list() == losses


def test_text_is_escaped_and_markup_is_not_escaped_twice():
    inner = element("b", "1 < 2", title='"q"')
    assert element("p", "a & b ", inner) == '<p>a &amp; b <b title="&quot;q&quot;">1 &lt; 2</b></p>'


def test_a_table_that_lacks_a_value_shows_a_dash_and_leaves_the_field_of_the_csv_empty():
    table = DataTable("t", "T", "Row", (DataColumn("A"),), (DataRow("x", (DataCell("–"),)),))
    assert table.values_csv() == "Row,A\nx,\n"
    assert "data-value" not in re.search(r"<td.*?</td>", table.html()).group()


def test_a_figure_is_an_image_of_its_own_or_says_why_there_is_none():
    svg = '<svg xmlns="http://www.w3.org/2000/svg"><style>*{fill:red}</style></svg>'
    drawn = Parsed(Page("t", "s", (Section("F", (Picture("f", "falls", svg, "a\n1\n"),)),)).html())
    (image,) = drawn.all("img")
    assert base64.b64decode(image["src"].partition(",")[2]).decode() == svg
    assert image["alt"] == "falls"
    absent = Parsed(Picture("f", "falls", None, "a\n1\n", why_missing="no matplotlib").html())
    assert absent.all("img") == []
    assert ("p", "no matplotlib") in absent.texts
    assert absent.download("f.csv") == "a\n1\n"


def test_figures_are_drawn_and_without_matplotlib_the_page_says_what_to_install(tmp_path, pictures, monkeypatch):
    write_methods(tmp_path)
    names = {"figure-ablation-etegrec.csv", "figure-cost.csv"}
    drawn = Parsed(page_text(tmp_path))
    assert names <= {link.get("download") for link in drawn.all("a")}
    assert len(drawn.all("img")) >= len(names)
    assert all(image["alt"] and image["src"].startswith("data:image/svg+xml") for image in drawn.all("img"))
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    bare = Parsed(page_text(tmp_path))
    assert bare.all("img") == []
    assert sum("pip install 'etegrec-harness[figures]'" in text for _, text in bare.texts) == len(drawn.all("img"))
    assert bare.download("figure-cost.csv") == drawn.download("figure-cost.csv")


def test_the_script_and_the_style_lie_in_the_package():
    folder = Path(__file__).parents[2] / "results" / "report"
    page = Page("t", "s", ()).html()
    assert (folder / "page.js").read_text() in page
    assert (folder / "page.css").read_text() in page
