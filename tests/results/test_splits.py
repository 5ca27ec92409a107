"""Orders of methods under splits, and cases of one user. Oracles: scipy, and arithmetic on ranks written here."""

from pathlib import Path

import numpy as np
import pytest
from made_up_runs import made_up_ranks, write_made_up_run
from scipy import stats

from results.errors import ResultsError
from results.figures.splits import splits_figure, splits_frame
from results.statistics.metrics.ndcg import ndcg
from results.statistics.splits import split_orders
from results.store.selection import Filters
from results.tables.render import render
from results.tables.splits import splits_table

SHARES = {  # of hits, under leave-one-out and the temporal split
    "popularity": (0.1, 0.5),
    "markov": (0.3, 0.4),
    "sasrec": (0.5, 0.3),
    "tiger": (0.7, 0.9),
}
TEMPORAL = {"dataset": "demo-temporal=0.8+0.9", "dataset_fingerprint": "beef", "split": "temporal", "whole": "f00d"}


def write_orders(runs: Path, **temporal: object) -> None:
    """400 users of four methods under leave-one-out, 300 under a temporal split."""
    for seed, (method, (first, second)) in enumerate(SHARES.items()):
        about = {"method": method, "title": method.upper(), "variant_title": method.upper()}
        write_made_up_run(runs, made_up_ranks(400, first, seed), **about)
        write_made_up_run(runs, made_up_ranks(300, second, seed + 10), **about, **(TEMPORAL | temporal))


def test_tau_and_places_are_those_of_the_values(tmp_path: Path) -> None:
    write_orders(tmp_path)
    found = split_orders(tmp_path, "demo")
    assert [split.name for split in found.splits] == ["leave-one-out", "temporal:0.8,0.9"]
    assert found.shared == ("POPULARITY", "MARKOV", "SASREC", "TIGER")
    values = [ndcg(made_up_ranks(400, first, seed), 10).mean() for seed, (first, _) in enumerate(SHARES.values())]
    assert found.values_MP[:, 0] == pytest.approx(values)
    assert found.places_MP.tolist() == [[4, 2], [3, 3], [2, 4], [1, 1]]
    assert found.tau_PP[0][1].mean == pytest.approx(stats.kendalltau(*found.values_MP.T).statistic)
    assert found.swapped(0, 1) == [("MARKOV", "POPULARITY"), ("SASREC", "POPULARITY"), ("SASREC", "MARKOV")]
    both = found.told_apart[0] & found.told_apart[1]
    assert frozenset(("SASREC", "POPULARITY")) in both
    assert frozenset(("SASREC", "MARKOV")) not in both  # 0.4 and 0.3 of 300 users: Holm over six pairs
    low, high = found.tau_PP[0][1][1:]
    assert -1 <= low <= found.tau_PP[0][1].mean <= high <= 1


def test_any_name_of_the_data_finds_all_splits_and_a_list_takes_those_named(tmp_path: Path) -> None:
    write_orders(tmp_path)
    write_made_up_run(tmp_path, [1, 0], dataset="other")
    by_name = [split_orders(tmp_path, name) for name in ("demo", "demo-temporal=0.8+0.9", "demo-f00d")]
    assert [[split.name for split in one.splits] for one in by_name] == [["leave-one-out", "temporal:0.8,0.9"]] * 3
    listed = split_orders(tmp_path, "demo-temporal=0.8+0.9,demo")
    assert [split.name for split in listed.splits] == ["temporal:0.8,0.9", "leave-one-out"]
    with pytest.raises(ResultsError, match=r"must be named with --dataset; known in .*: demo, other"):
        split_orders(tmp_path, None)
    with pytest.raises(ResultsError, match="'mars' has none"):
        split_orders(tmp_path, "mars")
    with pytest.raises(ResultsError, match="'other' has them under leave-one-out alone"):
        split_orders(tmp_path, "other")


def test_other_data_other_contracts_and_single_methods_are_refused(tmp_path: Path) -> None:
    write_orders(tmp_path / "data", whole="0ff")
    with pytest.raises(
        ResultsError, match=r"of different ones: demo-f00d \(leave-one-out\), demo-temporal=0\.8\+0\.9-beef"
    ):
        split_orders(tmp_path / "data", "demo")
    named = split_orders(tmp_path / "data", "demo,demo-temporal=0.8+0.9")
    assert named.notes[0].startswith("Not of the same data before the split")
    write_orders(tmp_path / "contract", contract_digest="ffff")
    with pytest.raises(ResultsError, match=r"leave-one-out abcd, temporal:0\.8,0\.9 ffff"):
        split_orders(tmp_path / "contract", "demo")
    with pytest.raises(ResultsError, match="demo"):  # with --contract, one split is left
        split_orders(tmp_path / "contract", "demo", Filters(contract="abcd"))
    write_made_up_run(tmp_path / "one", [1, 0])
    write_made_up_run(tmp_path / "one", [1, 0], **TEMPORAL)
    with pytest.raises(ResultsError, match="there are 1"):
        split_orders(tmp_path / "one", "demo")


def test_the_table_and_the_figure_say_what_the_orders_are(tmp_path: Path) -> None:
    write_orders(tmp_path)
    write_made_up_run(tmp_path, [1, 0] * 200, method="letter", title="LETTER", variant_title="LETTER")
    found = split_orders(tmp_path, "demo")
    table = splits_table(found)
    values = {(row.section, row.label): [cell.value for cell in row.cells] for row in table.rows}
    assert values["", "TIGER"][1::2] == [1, 1]
    assert values["", "LETTER"][1:] == [None, None, None]  # a value under one split, and no place
    assert values["Kendall's tau of the orders", "leave-one-out"][2] == pytest.approx(found.tau_PP[0][1].mean)
    assert values["Pairs of methods that swap, of 6", "leave-one-out"][2] == 3
    assert any("other way round under temporal:0.8,0.9: SASREC above POPULARITY." in note for note in table.notes)
    assert "Not run under every split, and so without a place: LETTER." in table.notes
    assert "temporal:0.8,0.9: 300 users." in table.notes
    for form in ("text", "markdown", "latex", "csv", "json", "html"):
        assert "TIGER" in render(table, form)
    frame = splits_frame(found)
    assert frame.filter(split="temporal:0.8,0.9").select("label", "rank").rows() == [
        ("POPULARITY", 2),
        ("MARKOV", 3),
        ("SASREC", 4),
        ("TIGER", 1),
    ]
    assert f"temporal:0.8,0.9 {found.tau_PP[0][1].mean:.2f}" in splits_figure(found).caption


@pytest.mark.filterwarnings("error")
def test_where_all_methods_tie_tau_is_unknown(tmp_path: Path) -> None:
    for method in ("markov", "tiger"):
        about = {"method": method, "title": method, "variant_title": method}
        write_made_up_run(tmp_path, made_up_ranks(30, 0.5, len(method)), **about)
        write_made_up_run(tmp_path, np.zeros(20, dtype=int), **about, **TEMPORAL)
    found = split_orders(tmp_path, "demo")
    row = next(row for row in splits_table(found).rows if row.section == "Kendall's tau of the orders")
    assert {cell.value for cell in row.cells} == {None}
    assert found.places_MP[:, 1].tolist() == [1, 1]
    assert found.swapped(0, 1) == []
    assert "unknown, since all methods tie" in splits_figure(found).caption
