"""`harness score` and `export`. Oracles: the exported run itself, the raw file, faults planted and counted by hand."""

import json
from pathlib import Path

import polars as pl
import pytest
from stored_runs import copied, ran


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the runs and the cache of two methods on the ratings: made once, since it takes the longest."""
    return ran(tmp_path_factory.mktemp("stored"), "--methods", "sasrec,markov", "--set", "sasrec.epochs=2")


@pytest.fixture
def exported(harness, stored: Path, ratings: Path) -> pl.DataFrame:
    """The stored runs and cache, and SASRec's lists in lists.csv."""
    copied(stored, ratings.parent)
    ended = harness("export", "sasrec", "--out", "lists.csv")
    assert (ended.code, ended.err) == (0, "wrote lists.csv: 520 places of 40 users\n")  # 13 items: no list has 50
    return pl.read_csv("lists.csv")


def cells(harness, label: str) -> list[dict]:
    table = json.loads(harness("table", "overall", "--metrics", "all", "--k", "1,5,10", "--json").out)
    (row,) = [row for row in table["rows"] if row["label"] == label]
    return [{name: cell[name] for name in ("value", "low", "high")} for cell in row["cells"]]


@pytest.mark.parametrize("ending", ["csv", "parquet", "jsonl", "run", "tsv.gz"])
def test_exported_lists_score_to_the_same_row_to_the_last_digit(harness, ratings, exported, ending):
    assert harness("export", "sasrec", "--out", f"again.{ending}").code == 0
    score = ("score", f"again.{ending}", "--dataset", str(ratings), "--name", "My Model", "--json")
    scored = json.loads(harness(*score).out)
    assert (scored["new"], scored["title"], scored["method"]) == (True, "My Model", "my-model")
    (folder,) = Path("runs").glob("tiny-*/sasrec/full/*/seed=0")
    for table in ("ranks", "outcomes", "metrics", "cases"):
        ours = pl.read_parquet(folder / f"{table}.parquet")
        theirs = pl.read_parquet(Path(scored["folder"]) / f"{table}.parquet")
        left = {"metrics": ["method", "config_digest"], "outcomes": ["popular_ahead"]}.get(table, [])
        assert theirs.drop(left).equals(ours.drop(left))
    if ending == "csv":  # the tables are the same whatever the file was
        assert cells(harness, "My Model") == cells(harness, "SASRec, epochs=2")


def test_a_scored_row_is_compared_shown_and_masked_like_any_other(harness, ratings, exported):
    score = ("score", "lists.csv", "--dataset", str(ratings), "--name", "Mine")
    assert "Mine" in harness(*score).out
    assert harness(*score).err == "'Mine', seed 0, was made from this file before\n"
    assert "No difference can be told between Mine and SASRec" in harness("compare", "mine", "sasrec").out
    assert "ranked lists from a file" in harness("show", "mine").out
    masked = json.loads(harness("table", "overall", "--mask-history", "--json").out)
    values = {row["label"]: [cell["value"] for cell in row["cells"]] for row in masked["rows"]}
    assert values["Mine"] == values["SASRec, epochs=2"]
    exported.reverse().write_csv("lists.csv")  # other bytes, the same lists
    assert "is a row made from another file" in harness(*score).error
    assert harness(*score, "--replace").code == 0
    harness("score", "lists.csv", "--dataset", str(ratings), "--name", "Mine", "--seed", "1")
    assert any("Seeds differ" in note for note in json.loads(harness("table", "overall", "--json").out)["notes"])


def test_lists_by_score_alone_are_ordered_like_ours(harness, ratings, exported):
    exported.drop("rank").sample(fraction=1.0, shuffle=True, seed=1).write_parquet("by_score.parquet")
    scored = harness("score", "by_score.parquet", "--dataset", str(ratings), "--name", "By score")
    assert scored.code == 0, scored.err
    assert cells(harness, "By score") == cells(harness, "SASRec, epochs=2")
    wide = exported.sort("user", "rank").group_by("user", maintain_order=True).agg(pl.col("item").alias("items"))
    wide.write_ndjson("wide.jsonl")
    assert harness("score", "wide.jsonl", "--dataset", str(ratings), "--name", "Wide").code == 0
    assert cells(harness, "Wide") == cells(harness, "SASRec, epochs=2")


def faulty(lists: pl.DataFrame, kind: str) -> pl.DataFrame:
    """The lists with one kind of fault."""
    user, rank, item = pl.col("user"), pl.col("rank"), pl.col("item")
    first = (user == "u7") & (rank == 1)
    return {
        "missing": lambda: lists.filter(~user.is_in(["u7", "u9"])),
        "strangers": lambda: lists.with_columns(user.replace("u7", "x7")),
        "unknown": lambda: lists.with_columns(pl.when(first).then(pl.lit("zz")).otherwise(item).alias("item")),
        "repeats": lambda: lists.with_columns(
            pl.when((user == "u7") & (rank == 2)).then(item.shift(1)).otherwise(item).alias("item")
        ),
        "short": lambda: lists.filter((user != "u7") | (rank < 4)),
        "twice": lambda: lists.with_columns(
            pl.when((user == "u7") & (rank == 2)).then(1).otherwise(rank).alias("rank")
        ),
        "gap": lambda: lists.filter((user != "u7") | (rank != 2)),
        "nan": lambda: lists.with_columns(pl.when(first).then(float("nan")).otherwise(pl.col("score")).alias("score")),
        "rises": lambda: lists.with_columns(pl.when(first).then(-1e9).otherwise(pl.col("score")).alias("score")),
        "empty": lambda: lists.with_columns(pl.when(first).then(None).otherwise(item).alias("item")),
        "words": lambda: lists.with_columns(
            pl.when(first).then(pl.lit("one")).otherwise(rank.cast(pl.String)).alias("rank")
        ),
        "columns": lambda: lists.drop("rank", "score"),
    }[kind]()


FAULTS = {
    "missing": "2 test users have no list, such as user 'u7'; mend the file, or let pass with --allow missing-users",
    "strangers": "1 users are not in the test, such as user 'x7'; 1 test users have no list, such as user 'u7'",
    "unknown": "1 items are not in the catalog, such as item 'zz'",
    "repeats": "1 items stand twice in a list, such as one in the list of user 'u7'",
    "short": "1 lists have fewer than 10 items, such as that of user 'u7'",
    "twice": "1 ranks stand twice in a list, such as one in the list of user 'u7'",
    "gap": "1 lists leave out a rank, such as that of user 'u7'",
    "nan": "1 scores are not finite numbers, such as one of user 'u7'",
    "rises": "1 scores rise where the rank falls, such as one of user 'u7'",
    "empty": "1 rows have no user or no item",
    "words": "rank must be a whole number, but 1 are not, such as 'one' of user 'u7'",
    "columns": "must have a column of ranks or of scores, but has user, item",
}


def test_each_kind_of_fault_is_one_line_with_count_and_example(harness, ratings, exported):
    score = ("score", "bad.csv", "--dataset", str(ratings), "--name", "Bad")
    for kind, message in FAULTS.items():
        faulty(exported, kind).write_csv("bad.csv")
        ended = harness(*score)
        assert ended.code == 2
        assert message in ended.error, kind
    both = faulty(faulty(exported, "short"), "unknown")
    both.write_csv("bad.csv")
    assert harness(*score).error.count("such as") == 2
    assert not list(Path("runs").glob("tiny-*/bad"))


def test_a_fault_that_is_let_pass_is_an_assumption_of_the_row(harness, ratings, exported):
    faulty(faulty(faulty(exported, "missing"), "unknown"), "short").write_csv("bad.csv")
    score = ("score", "bad.csv", "--dataset", str(ratings), "--name", "Bad", "--json")
    made = json.loads(harness(*score, "--allow", "missing-users").out)
    assert "users without a list count as misses (2 test users have no list, such as user 'u7')" in made["assumptions"]
    users = [f"u{number}" for number in range(40)]
    prepared = pl.read_parquet(next(Path("cache/prepared").glob("tiny-*/test.parquet")))["user"].to_list()
    assert sorted(prepared) == sorted(users)
    ranks = pl.read_parquet(Path(made["folder"]) / "ranks.parquet")
    missing = [prepared.index(user) for user in ("u7", "u9")]
    assert ranks.filter(pl.col("user").is_in(missing))["rank"].to_list() == [0, 0]


def test_names_files_and_contracts_are_checked(harness, ratings, exported):
    score = ("score", "lists.csv", "--dataset", str(ratings), "--name")
    assert "'sasrec' is a method of this harness" in harness(*score, "sasrec").error
    assert "'!' has no letter" in harness(*score, "!").error
    assert "no such file" in harness("score", "no.csv", "--dataset", str(ratings), "--name", "A").error
    Path("lists.xlsx").write_text("x")
    assert "must end in one of .csv" in harness("score", "lists.xlsx", "--dataset", str(ratings), "--name", "A").error
    Path("bad.parquet").write_text("x")
    assert (
        "cannot be read as parquet" in harness("score", "bad.parquet", "--dataset", str(ratings), "--name", "A").error
    )
    Path("bad.run").write_text("u1 Q0 i1 1\n")
    assert "line 1 has 4 fields" in harness("score", "bad.run", "--dataset", str(ratings), "--name", "A").error
    assert "unknown fault 'all-of-it'" in harness(*score, "A", "--allow", "all-of-it").error
    assert "but 'ffff' means no run" in harness(*score, "A", "--contract", "ffff").error
    made = json.loads(harness(*score, "A", "--top-k", "5", "--json").out)
    assert made["contract"]["top_k"] == 5
    assert "must end in one of" in harness("export", "sasrec", "--out", "lists.doc").error
    assert "a folder that exists" in harness("export", "sasrec", "--out", "no/lists.csv").error
