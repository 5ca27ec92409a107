"""The comparison on the command line. Oracles: the JSON's own numbers, the width of the screen, one error line."""

import json
from pathlib import Path

import pytest
from ended import Command


@pytest.fixture
def compared(harness: Command, two_methods: None) -> Command:
    """The command in a folder with runs of the two quickest methods."""
    return harness


def test_json_holds_the_verdict_and_every_number_by_name(compared: Command) -> None:
    ended = compared("compare", "markov", "popularity", "--metric", "ndcg", "--k", "10", "--json")
    (found,) = json.loads(ended.out)
    (metric,) = found["metrics"]
    assert (ended.code, found["primary"], metric["metric"], metric["k"]) == (0, "NDCG@10", "NDCG", 10)
    assert metric["difference"]["mean"] == pytest.approx(metric["first"] - metric["second"])
    assert {"t_test", "wilcoxon", "permutation"} == set(metric["p_values"]) == set(metric["adjusted"])
    assert {"d_z", "better", "worse", "equal", "gain"} == set(metric["effect"])
    assert sum(metric["effect"][share] for share in ("better", "worse", "equal")) == pytest.approx(1)
    assert "one seed each" in found["verdict"]


@pytest.mark.parametrize("columns", ["80", "200"])
def test_the_screen_shows_verdict_numbers_and_notes_within_its_width(
    compared: Command, monkeypatch: pytest.MonkeyPatch, columns: str
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    for arguments in (["markov", "popularity"], ["markov"]):
        ended = compared("compare", *arguments)
        assert ended.code == 0
        assert "Markov against Popularity on" in ended.out
        assert "…" not in ended.out
        assert max(map(len, ended.out.splitlines())) <= int(columns)


def test_wrong_names_and_metrics_are_one_line_and_code_2(compared: Command) -> None:
    for arguments in (["markov", "nobody"], ["markov", "markov"], ["markov", "popularity", "--metric", "AUC"]):
        ended = compared("compare", *arguments)
        assert ended.code == 2
        assert ended.error


def test_a_table_can_be_cut_into_slices(compared: Command) -> None:
    ended = compared("table", "overall", "--slice", "item-popularity", "--json")
    rows = json.loads(ended.out)["rows"]
    assert {row["section"] for row in rows} >= {"Target: 6–20 times"}
    assert all(cell["low"] is not None for row in rows if row["label"] == "Markov" for cell in row["cells"][1:])
    users = {row["section"]: row["cells"][0]["value"] for row in rows if row["label"] == "Markov"}
    assert sum(users.values()) == 40
    assert "interval" in compared("table", "overall", "--slice", "new-user", "--ci", "--format", "md").out
    assert (
        "--slice must not meet --published" in compared("table", "overall", "--slice", "new-user", "--published").error
    )
    assert "needs a method with item codes" in compared("table", "overall", "--slice", "collision").error


def test_slicing_a_run_without_cases_names_the_remedy_and_the_remedy_works(compared: Command, ratings: Path) -> None:
    for path in Path("runs").glob("*/*/*/*/seed=0/cases.parquet"):
        path.unlink()
        done = path.with_name("DONE")
        done.write_text(json.dumps({n: s for n, s in json.loads(done.read_text()).items() if n != "cases.parquet"}))
    before = compared("table", "overall", "--slice", "user-length")
    assert before.code == 2
    assert "give its 'harness run' command again" in before.error
    assert compared("run", "--dataset", str(ratings), "--methods", "popularity,markov").code == 0
    assert compared("table", "overall", "--slice", "user-length").code == 0


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """30 users with 8 interactions each, who begin one after another, so that points of time part them."""
    rows = [f"u{u},i{(u * u + t * (1 + u % 4)) % 11},{50 * u + 97 * t}" for u in range(30) for t in range(8)]
    path = tmp_path / "log.csv"
    path.write_text("user,item,timestamp\n" + "\n".join(rows) + "\n")
    return path


def test_the_order_of_methods_is_compared_between_splits(harness: Command, log: Path, tmp_path: Path) -> None:
    run = ("run", "--dataset", str(log), "--methods", "popularity,markov", "--split")
    assert harness(*run, "leave-one-out").code == 0
    assert "has them under leave-one-out alone; make others with: harness run" in harness("compare", "--splits").error
    for split in ("temporal:0.8", "temporal:0.8,every"):
        assert harness(*run, split).code == 0
    table = json.loads(harness("compare", "--splits", "--metric", "recall", "--k", "5", "--json").out)
    groups = [column["group"] for column in table["columns"][::2]]
    assert groups == ["leave-one-out", "temporal:0.8", "temporal:0.8,every"]
    values = {row["label"]: [cell["value"] for cell in row["cells"]] for row in table["rows"][:2]}
    for place, data in enumerate(("log", "log-temporal=0.8", "log-temporal=0.8+every")):
        board = json.loads(harness("table", "overall", "--dataset", data, "--json").out)
        shown = {row["label"]: row["cells"][0]["value"] for row in board["rows"] if row["label"] in values}
        assert {label: own[2 * place] for label, own in values.items()} == shown
    assert {tuple(sorted(own[place] for own in values.values())) for place in (1, 3, 5)} <= {(1, 2), (1, 1)}
    many = next(note for note in table["notes"] if note.startswith("temporal:0.8,every"))
    cases, users = (int(word.replace(",", "")) for word in many.split() if word.replace(",", "").isdecimal())
    assert cases > users
    assert "Kendall's tau" in harness("compare", "--splits", "--dataset", "log", "--figure", "drawn").out
    assert harness("figure", "splits", "--format", "svg", "--out", "own").code == 0
    assert (tmp_path / "own" / "splits.csv").read_bytes() == (tmp_path / "drawn" / "splits.csv").read_bytes()
    two = ("compare", "--splits", "--dataset", "log,log-temporal=0.8", "--out", "orders.csv")
    assert harness(*two).code == 0
    assert "Kendall's tau of the orders" in (tmp_path / "orders.csv").read_text()
    every = "log-temporal=0.8+every"
    assert f"{cases:,} cases of {users:,} users" in harness("compare", "markov", "--dataset", every).out
    assert "several test cases of user" in harness("export", f"{every}/markov").error
    for arguments, message in (
        (("markov", "--splits"), "--splits orders all methods, but got 'markov'"),
        (
            ("--splits", "--dataset", "log", "--metric", "mrr", "--metric", "ndcg"),
            "by one metric, but got MRR@10, NDCG@10",
        ),
        ((), "harness compare needs a method"),
        (("markov", "--out", "x.csv"), "--out goes with --splits"),
    ):
        ended = harness("compare", *arguments)
        assert ended.code == 2
        assert message in ended.error
