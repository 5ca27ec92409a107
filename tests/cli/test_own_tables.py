"""A csv of one's own without any option. Oracles: README's own commands, and counts by hand."""

import gzip
import json
import re
import shlex
from pathlib import Path

import polars as pl
from tiny_ratings import ROWS

README = Path(__file__).resolve().parents[2] / "README.md"
TABLE = "userId,movieId,rating,timestamp\n" + "\n".join(ROWS) + "\n"


def test_readmes_first_examples_work_on_files_with_usual_headers(harness):
    """The commands as they stand in README, but for `--dry-run`, so that nothing is trained."""
    Path("ratings.csv.gz").write_bytes(gzip.compress(TABLE.encode()))
    pl.read_csv(TABLE.encode(), new_columns=["buyer", "film", "rating", "watched"]).write_parquet("log.parquet")
    Path("films.csv").write_text("item_id,title\ni1,A red pot\ni2,A lid\n")
    (commands,) = re.findall(r"## Your data\n.*?```sh\n(.*?)```", README.read_text(), re.DOTALL)
    lines = [shlex.split(line)[1:] for line in commands.splitlines()]
    assert len(lines) == 3
    for arguments in lines:
        ended = harness(*arguments, *(["--dry-run"] if arguments[0] == "run" else []))
        assert ended.code == 0, ended.err
        assert "to run" in ended.out or "userId" in ended.out


def test_describe_tells_format_columns_times_texts_and_traps(harness):
    Path("ratings.csv").write_text(TABLE)
    ended = harness("data", "describe", "ratings.csv")
    told = " ".join(ended.out.split())
    assert "Format csv Columns users in column 'userId', items in 'movieId', times in 'timestamp'; ratings in" in told
    # The times of all users begin at one number and count up by one.
    assert "Times ranks within each user, no dates, 0.00 % tied" in told
    assert "Texts none: methods that read text need --metadata FILE" in told
    assert "0.00 % Test targets that training never saw" in told
    found = json.loads(harness("data", "describe", "ratings.csv", "--json").out)
    assert found["source"]["columns"]["columns"] == {"user": "userId", "item": "movieId", "time": "timestamp"}
    assert found["traps"]["unseen_targets_share"] == 0


def test_a_run_prints_which_columns_it_reads_every_time(harness):
    Path("ratings.csv").write_text(TABLE)
    run = ("run", "--dataset", "ratings.csv", "--methods", "popularity")
    line = "csv: users in column 'userId', items in 'movieId', times in 'timestamp'"
    assert line in harness(*run).err
    assert line in harness(*run).err  # nothing is computed any more
    ended = harness(*run, "--time-col", "none", "--dry-run")
    assert "no times: the rows' order counts; ratings in 'rating' are not used" in ended.err
    assert "not used: timestamp; if one of these holds times, name it with --time-col" in ended.err
