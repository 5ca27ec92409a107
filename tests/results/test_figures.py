"""Figures of runs. Oracles: arithmetic by hand, the formats' own signatures, a parser, bytes against bytes."""

import re
import sys
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from made_up_runs import made_up_cases, made_up_record, write_made_up_run

from results.errors import ResultsError
from results.figures.ablation import ablation_figure
from results.figures.alignment import alignment_figure
from results.figures.cost import cost_figure
from results.figures.curves import best_positions, curves_figure, curves_frame
from results.figures.rendering import Figure, style
from results.figures.tokenizer import tokenizer_figure, tokenizer_frame
from results.figures.unseen import unseen_figure
from results.store.schema import HISTORY_SCHEMA, cases_frame, history_frame
from results.store.selection import Filters

matplotlib = pytest.importorskip("matplotlib")

HEALTH = {"used_codes": [8, 6], "perplexity": [7.5, 4.0], "collision_rate": 0.05, "codebook_size": 8}


def write_variants(runs_dir: Path, dataset: str = "demo") -> None:
    """ETEGRec finds 30 of 40 targets at rank 1, w/o SIA 20 of them, w/o PSA all."""
    for place, (variant, title, hits) in enumerate(
        (("full", "ETEGRec", 30), ("wo-psa", "w/o PSA", 40), ("wo-sia", "w/o SIA", 20))
    ):
        ranks = [1] * hits + [0] * (40 - hits)
        names = {"method": "etegrec", "title": "ETEGRec", "variant": variant, "variant_title": title}
        write_made_up_run(runs_dir, ranks, dataset=dataset, config_digest=f"{place:016x}", health=HEALTH, **names)


def alignment_data() -> pl.DataFrame:
    """Two panels of two items with two histories each."""
    rows = [
        (panel, "preference", item, "validation", float(item + place), float(place), own, 0.1)
        for panel, own in (("ETEGRec", 0.9), ("w/o PSA", 0.2))
        for item in (3, 5)
        for place in (0, 1)
    ] + [(panel, "item", item, None, item, 2.0, None, None) for panel in ("ETEGRec", "w/o PSA") for item in (3, 5)]
    names = ["panel", "kind", "item", "source", "x", "y", "own_cosine", "other_cosine"]
    return pl.DataFrame(rows, schema=names, orient="row", strict=False)


# The data of each figure.


def test_an_ablation_shows_each_variant_minus_the_full_method(tmp_path: Path) -> None:
    write_variants(tmp_path)
    frame = ablation_figure(tmp_path, "demo", "etegrec").frame
    recall = frame.filter(pl.col("metric") == "Recall@10")
    assert recall["label"].to_list() == ["w/o SIA", "w/o PSA"]  # the paper's order
    assert recall["full"].to_list() == [0.75, 0.75]
    assert recall["difference"].to_list() == [pytest.approx(-0.25), pytest.approx(0.25)]
    assert frame.filter((pl.col("low") > pl.col("difference")) | (pl.col("difference") > pl.col("high"))).is_empty()
    assert frame["published_difference"].null_count() == len(frame)


def test_the_papers_differences_stand_beside_those_on_its_own_data(tmp_path: Path) -> None:
    write_variants(tmp_path, "scientific")
    frame = ablation_figure(tmp_path, "scientific", "etegrec").frame
    found = frame.filter((pl.col("label") == "w/o SIA") & (pl.col("metric") == "Recall@10"))["published_difference"]
    assert found.item() == pytest.approx(PUBLISHED_WITHOUT_SIA - PUBLISHED_FULL)


PUBLISHED_FULL, PUBLISHED_WITHOUT_SIA = 0.0455, 0.0446  # Recall@10 on Scientific in the paper's Table 4


def test_cost_adds_up_the_stages_but_not_the_test(tmp_path: Path) -> None:
    seconds = ({"tokenizer": 12.0, "fit": 300.0, "test": 9.0}, {"tokenizer": 14.0, "fit": 310.0, "test": 9.0})
    for seed in (0, 1):
        write_made_up_run(tmp_path, [1, 0, 3, 0], seed=seed, seconds=seconds[seed])
    (row,) = cost_figure(tmp_path, "demo").frame.iter_rows(named=True)
    assert row["seconds"] == pytest.approx((312 + 324) / 2)
    assert row["value"] == pytest.approx((1 + 1 / 2) / 4)  # 1 / log2(1 + 1), 1 / log2(3 + 1)
    assert row["low"] <= row["value"] <= row["high"]


def test_seen_and_new_users_are_told_apart(tmp_path: Path) -> None:
    is_new = np.array([False, True, False, True, False])
    cases = cases_frame(np.full(5, 5), np.full(5, 3), new_users=is_new)
    write_made_up_run(tmp_path, [1, 0, 2, 10, 0], cases, dataset="demo-unseen-users")
    for name in ("demo", "demo-unseen-users"):
        frame = unseen_figure(tmp_path, name).frame
        assert frame["num_users"].to_list() == [3, 2]
        assert frame["value"].to_list() == [pytest.approx(2 / 3), pytest.approx(1 / 2)]


def test_unseen_users_need_runs_under_the_split(tmp_path: Path) -> None:
    write_made_up_run(tmp_path, [1, 0])
    with pytest.raises(ResultsError, match=r"no runs of demo-unseen-users; make them with: harness run --dataset demo"):
        unseen_figure(tmp_path, "demo")
    write_made_up_run(tmp_path, [1, 0], made_up_cases(2), dataset="demo-unseen-users")
    with pytest.raises(ResultsError, match="has no new ones"):
        unseen_figure(tmp_path, "demo")


def epoch(stage: str, phase: str, number: int, losses: dict[str, float], **rest: object) -> dict[str, object]:
    return {"stage": stage, "phase": phase, "epoch": number, "losses": losses, **rest}


HISTORY = history_frame(
    [
        epoch("alternating", "tokenizer", 1, {"sq": 0.5, "total": 0.5}, measures={"codes_changed": 0.25}),
        epoch("alternating", "recommender", 2, {"total": 4.0}, score=0.1),  # the alignments have not begun
        epoch("alternating", "tokenizer", 3, {"sq": 0.4, "psa": 2.0, "total": 0.6}, measures={"codes_changed": 0.1}),
        epoch("alternating", "recommender", 4, {"rec": 3.0, "psa": 1.0, "total": 3.1}, score=0.2),
        epoch("finetuning", "recommender", 1, {"total": 2.0}, score=0.15),
    ]
)
PRETRAINING = history_frame(
    [
        epoch("sasrec", "train", 1, {"total": 6.0}, score=0.05),
        epoch(
            "tokenizer",
            "tokenizer",
            10,
            {"total": 0.9},
            score=-3.0,
            measures={
                "used_codes_1": 5,
                "used_codes_2": 6,
                "perplexity_1": 4,
                "perplexity_2": 3,
                "collision_rate": 0.3,
            },
        ),
        epoch(
            "tokenizer",
            "tokenizer",
            20,
            {"total": 0.8},
            score=-2.0,
            measures={
                "used_codes_1": 7,
                "used_codes_2": 8,
                "perplexity_1": 6,
                "perplexity_2": 5,
                "collision_rate": 0.2,
            },
        ),
    ]
)


def test_curves_put_the_stages_on_one_axis_and_name_the_recommendation_loss() -> None:
    frame = curves_frame(HISTORY, PRETRAINING)
    own = frame.filter(pl.col("part") == "training")
    rec = own.filter(pl.col("quantity") == "loss/rec")
    assert rec.select("position", "value").rows() == [(2, 4.0), (4, 3.0), (5, 2.0)]  # the fine-tuning follows epoch 4
    assert own.filter(pl.col("quantity") == "loss/sq")["value"].to_list() == [0.5, 0.4]
    assert "loss/total" not in own["quantity"].to_list()  # it is told by its parts
    assert frame.filter(pl.col("part") == "sasrec")["quantity"].to_list() == ["score", "loss/total"]
    assert best_positions(own) == [4, 5]


def test_the_codes_begin_with_those_of_the_best_pretrained_tokenizer_and_end_with_those_kept() -> None:
    frame = tokenizer_frame(HISTORY, PRETRAINING, made_up_record(health=HEALTH))
    training = frame.filter(pl.col("part") == "training")
    changed = training.filter(pl.col("quantity") == "codes_changed")
    assert changed.select("epoch", "value", "kept").rows() == [(1, 0.25, False), (3, 0.1, True)]  # epoch 4 scored best
    used = training.filter((pl.col("quantity") == "used_codes") & (pl.col("level") == 1))
    assert used.select("epoch", "value").rows() == [(0, 7.0), (4, 8.0)]  # measured before, and with the kept codes
    before = frame.filter((pl.col("part") == "pre-training") & (pl.col("quantity") == "collision_rate"))
    assert before.select("epoch", "value", "kept").rows() == [(10, 0.3, False), (20, 0.2, True)]
    assert frame["codebook_size"].unique().to_list() == [8]


def test_codes_that_training_measured_are_shown_at_each_tokenizer_epoch() -> None:
    measured = [
        epoch("alternating", "tokenizer", n, {}, measures={"codes_changed": 0.1, "used_codes_1": 10.0 - n})
        for n in (1, 3)
    ]
    frame = tokenizer_frame(history_frame(measured), None, made_up_record(health=HEALTH))
    assert frame.filter(pl.col("quantity") == "used_codes").select("epoch", "value").rows() == [(1, 9.0), (3, 7.0)]


def test_methods_without_epochs_or_codes_are_refused(tmp_path: Path) -> None:
    run = write_made_up_run(tmp_path, [1, 0], method="popularity", title="Popularity")
    with pytest.raises(ResultsError, match="Popularity has none; name another --method"):
        tokenizer_figure(tmp_path, "demo", "popularity")
    HISTORY_SCHEMA.to_frame().write_parquet(run.folder / "history.parquet")
    (run.folder / "DONE").write_text("{}")
    with pytest.raises(ResultsError, match="Popularity is not trained by any"):
        curves_figure(tmp_path, "demo", "popularity")


def test_an_alignments_caption_tells_the_gap_of_each_panel() -> None:
    caption = alignment_figure(alignment_data(), "demo", "w/o PSA").caption
    assert "ETEGRec +0.800 (0.900 - 0.100); w/o PSA +0.100 (0.200 - 0.100)" in caption
    assert "2 items of demo and 4 histories that lead to them (4 validation cases;" in caption


def test_filters_choose_the_config(tmp_path: Path) -> None:
    write_variants(tmp_path)
    write_made_up_run(tmp_path, [0] * 40, method="etegrec", title="ETEGRec", config_digest="f" * 16)
    assert ablation_figure(tmp_path, "demo", "etegrec", filters=Filters(configs=("0" * 16,))).frame["full"][0] == 0.75
    assert ablation_figure(tmp_path, "demo", "etegrec", filters=Filters(configs=("f",))).frame["full"][0] == 0.0


# Files.


def every_figure(runs_dir: Path) -> list[Figure]:
    """One of each, from made-up runs."""
    write_variants(runs_dir)
    write_made_up_run(runs_dir, [2] * 40, health=HEALTH, config_digest="a" * 16)
    cases = cases_frame(np.full(40, 5), np.full(40, 3), new_users=np.arange(40) < 4)
    write_made_up_run(runs_dir, [1] * 40, cases, dataset="demo-unseen-users")
    curves = curves_figure(runs_dir, "demo", "etegrec", pretraining=PRETRAINING)
    return [
        ablation_figure(runs_dir, "demo", "etegrec"),
        cost_figure(runs_dir, "demo"),
        unseen_figure(runs_dir, "demo"),
        replace(curves, frame=curves_frame(HISTORY, PRETRAINING)),
        tokenizer_figure(runs_dir, "demo", "etegrec", pretraining=PRETRAINING),
        alignment_figure(alignment_data(), "demo", "w/o PSA"),
    ]


def test_every_figure_is_written_whole_in_all_formats(tmp_path: Path) -> None:
    for figure in every_figure(tmp_path / "runs"):
        files = figure.save(tmp_path / "figures")
        assert [path.suffix for path in files] == [".png", ".svg", ".pdf", ".csv"]
        png, svg, pdf, csv = (path.read_bytes() for path in files)
        assert png.startswith(b"\x89PNG\r\n\x1a\n")
        width = int.from_bytes(png[16:20], "big") / 300  # inches
        assert 3.3 < width < 7.1
        assert ElementTree.fromstring(svg).tag == "{http://www.w3.org/2000/svg}svg"
        assert pdf.startswith(b"%PDF-")
        assert b"/FontFile2" in pdf  # TrueType, embedded
        assert b"/FontFile3" not in pdf
        assert b"date" not in svg + pdf.lower()
        assert pl.read_csv(csv).shape == figure.frame.shape
        assert figure.rendered(["svg"])["svg"] == svg
    assert not list(tmp_path.rglob("*.tmp"))


def test_the_same_data_make_the_same_bytes(tmp_path: Path) -> None:
    write_variants(tmp_path / "runs")
    files = ablation_figure(tmp_path / "runs", "demo", "etegrec").save(tmp_path / "first")
    again = ablation_figure(tmp_path / "runs", "demo", "etegrec").save(tmp_path / "second", ["pdf", "svg", "png"])
    assert {path.name: path.read_bytes() for path in files} == {path.name: path.read_bytes() for path in again}


def test_the_users_own_settings_change_nothing(tmp_path: Path) -> None:
    write_variants(tmp_path)
    figure = ablation_figure(tmp_path, "demo", "etegrec")
    expected = figure.rendered(["svg"])["svg"]
    with matplotlib.rc_context({"font.size": 30, "axes.grid": False, "svg.fonttype": "none"}):
        assert figure.rendered(["svg"])["svg"] == expected


def test_svgs_of_one_page_share_no_id_and_find_their_own(tmp_path: Path) -> None:
    write_variants(tmp_path)
    figure = ablation_figure(tmp_path, "demo", "etegrec")
    figures = [figure, replace(figure, frame=figure.frame.head(2))]  # of one name
    texts = [figure.svg_text() for figure in figures]
    ids = [re.findall(r'\bid="([^"]*)"', text) for text in texts]
    assert not set(ids[0]) & set(ids[1])
    for text, own, figure in zip(texts, ids, figures, strict=True):
        assert text.startswith("<svg ")
        assert len(own) == len(set(own))
        used = re.findall(r'href="#([^"]*)"', text) + re.findall(r"url\(#([^)]*)\)", text)
        assert set(used) <= set(own)
        assert ElementTree.fromstring(text).attrib["aria-label"] == figure.caption


def test_a_figure_that_cannot_be_drawn_leaves_no_file(tmp_path: Path) -> None:
    def broken(frame: pl.DataFrame) -> object:
        raise ZeroDivisionError

    figure = Figure("broken", "", pl.DataFrame({"a": [1]}), broken)  # type: ignore[arg-type]
    with pytest.raises(ZeroDivisionError):
        figure.save(tmp_path)
    with pytest.raises(ResultsError, match="unknown format 'jpg' of a figure; known: png, svg, pdf"):
        figure.save(tmp_path, ["png", "jpg"])
    assert not list(tmp_path.iterdir())


def test_a_missing_matplotlib_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ResultsError, match=r"pip install 'etegrec-harness\[figures\]'") as error:
        style("any")
    assert "\n" not in str(error.value)


# Looks.


def test_labels_of_crowded_points_cover_neither_each_other_nor_a_point() -> None:
    from results.figures.drawing.looks import COLUMN, label_points, picture

    with style("labels"):
        drawn = picture(COLUMN, 2.6)
        axes = drawn.subplots()
        points = np.array([[1.0, 1.0], [1.02, 1.0], [1.0, 1.03], [1.05, 1.02], [3.0, 2.0]])
        axes.plot(points[:, 0], points[:, 1], "o")
        axes.set_xlim(0, 4)
        axes.set_ylim(0, 3)
        label_points(axes, points, ["LETTER", "TIGER", "TIGER-SAS", "ETEGRec", "SASRec"], ["black"] * 5)
        drawn.canvas.draw()
        boxes = [text.get_window_extent() for text in axes.texts]
        assert len(boxes) == 5
        assert not any(first.overlaps(second) for first, second in combinations(boxes, 2))
        assert all(axes.bbox.contains(*box.min) and axes.bbox.contains(*box.max) for box in boxes)
        for box in boxes:
            assert not box.count_contains(axes.transData.transform(points))


def test_looks_differ_without_colour_and_stay_with_their_method() -> None:
    from results.figures.drawing.looks import LOOKS, looks_of

    for part in ("color", "marker", "line", "hatch"):
        assert len({getattr(look, part) for look in LOOKS}) == len(LOOKS)
    assert looks_of({"tiger": 300, "etegrec": 400})["tiger"] == looks_of({"mine": 1000, "tiger": 300})["tiger"]
    assert len(set(looks_of({"popularity": 10, "tiger": 300, "etegrec": 400, "mine": 1000, "old": None}).values())) == 5


def test_labels_cover_neither_points_nor_each_other() -> None:
    from matplotlib.text import Text

    from results.figures.drawing.looks import label_points, picture

    with style("labels"):
        drawn = picture(3.4, 2.6)
        axes = drawn.subplots()
        points = np.array([[0.1, 0.1], [0.12, 0.1], [0.14, 0.12], [0.9, 0.9], [0.5, 0.11]])
        axes.plot(points[:, 0], points[:, 1], "o", markersize=6)
        axes.set(xlim=(0, 1.2), ylim=(0, 1))
        names = ["SASRec", "GRU4Rec, epochs=2", "TIGER-SAS", "Markov", "LETTER"]
        label_points(axes, points, names, ["black"] * len(names))
        renderer = drawn.canvas.get_renderer()  # type: ignore[attr-defined]
        for text in axes.texts:
            text.update_positions(renderer)  # type: ignore[attr-defined]
        boxes = [Text.get_window_extent(text, renderer) for text in axes.texts]  # without the lines to the points
    assert sorted(text.get_text() for text in axes.texts) == sorted(names)
    assert not any(first.overlaps(second) for place, first in enumerate(boxes) for second in boxes[:place])
    pixels = axes.transData.transform(points)
    assert not any(box.contains(x, y) for box in boxes for x, y in pixels)
