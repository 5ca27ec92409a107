"""Every mistake gets one clear line and a non-zero exit. Oracle: the rule, value and remedy expected."""

import errno
import os
from pathlib import Path

import pytest
from tiny_ratings import ROWS

from harness.stages import locked

USAGE, FAILED = 2, 1


def run(harness, path, *arguments):
    return harness("run", "--dataset", str(path), "--jobs", "1", *arguments)


def test_a_missing_file(harness):
    ended = run(harness, "nowhere/ratings.csv")
    assert ended.code == USAGE
    assert "nowhere/ratings.csv: no such file or folder" in ended.error


def test_a_file_of_no_known_format(harness, tmp_path):
    (tmp_path / "picture.bin").write_bytes(bytes(range(256)))
    ended = run(harness, tmp_path / "picture.bin")
    assert ended.code == USAGE
    assert "not an interaction file of a known format" in ended.error
    assert "--format" in ended.error


def test_an_unknown_format_is_corrected(harness, ratings):
    ended = run(harness, ratings, "--format", "recbol")
    assert ended.code == USAGE
    assert "unknown format 'recbol'; did you mean 'recbole'?" in ended.error


@pytest.mark.parametrize(("row", "rule"), [("u9,i1,5.0", "4 fields"), ("u9,i1,5.0,yesterday", "yesterday")])
def test_a_bad_row_is_named_by_file_and_line(harness, tmp_path, row, rule):
    path = tmp_path / "bad.csv"
    path.write_text("\n".join([*ROWS[:7], row, *ROWS[7:]]) + "\n")
    ended = run(harness, path)
    assert ended.code == USAGE
    assert f"{path}:8" in ended.error
    assert rule in ended.error


@pytest.mark.parametrize(
    ("text", "arguments", "told"),
    [
        ("[sasrek]\nepochs = 3", [], "config.toml:1: 'sasrek' must be a method, or 'contract'; did you mean 'sasrec'?"),
        ("[sasrec]\nepochs = 3\ndropout = 2", [], "config.toml:3: sasrec.epochs=3, sasrec.dropout=2: dropout: Input"),
        ("[contract]\n\ntop_k = 50", [], "config.toml:3: contract.top_k=50: num_beams >= top_k must hold"),
        ("[sasrec]\ndropout = 0.5", ["--set", "sasrec.dropout=2"], "error: sasrec.dropout='2': dropout: Input"),
    ],
)
def test_a_mistake_in_a_config_file_is_told_with_its_line(harness, ratings, text, arguments, told):
    Path("config.toml").write_text(text + "\n")
    ended = run(harness, ratings, "--methods", "sasrec", "--config", "config.toml", "--dry-run", *arguments)
    assert ended.code == USAGE
    assert told in ended.error


def test_nothing_left_after_the_core_filter(harness, ratings):
    ended = run(harness, ratings, "--core", "99")
    assert ended.code == USAGE
    assert "no interaction is left of 240 after the 99-core filter; lower --core" in ended.error


def test_a_user_with_too_few_interactions(harness, tmp_path):
    path = tmp_path / "short.csv"
    path.write_text("\n".join([*ROWS, "loner,i1,5.0,1600000000000"]) + "\n")
    ended = run(harness, path)
    assert ended.code == USAGE
    assert "user 'loner' has 1" in ended.error
    assert run(harness, path, "--short-users", "drop", "--methods", "popularity").code == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--methods", "tigre"], "unknown method 'tigre'; did you mean 'tiger'?"),
        (["--set", "sasrec.learning_rat=1"], "unknown field 'sasrec.learning_rat'; did you mean 'learning_rate'?"),
        (["--set", "sasrek.epochs=1"], "did you mean 'sasrec'?"),
        (["--set", "sasrec.epochs=many"], "sasrec.epochs='many'"),
        (["--set", "sasrec.epochs.x=1"], "'sasrec.epochs' has no field 'x'"),
        (["--set", "contract.beams=1"], "unknown field 'contract.beams'"),
        (["--ablation", "sio"], "unknown ablation 'sio'; did you mean 'sia'?"),
        (["--preset", "litee"], "no preset 'litee'; did you mean 'lite'?"),
        (["--recipe", "mine"], "'--recipe'"),
        (["--beams", "5"], "num_beams >= top_k must hold, but got num_beams=5, top_k=10; raise num_beams (--beams)"),
        (["--seeds", "x"], "--seeds must be"),
        (["--device", "cuda"], "--device cuda must be present"),
        (["--device", "mps"], "'mps' is not one of 'auto', 'cpu', 'cuda'"),
        (["--card", "h100"], "--card h100 is for an estimate of the time; add --dry-run"),
        (["--card", "h10", "--dry-run"], "no figures are known of the card 'h10'; did you mean 'h100'?"),
        (["--repeats", "maybe"], "Invalid value for '--repeats': 'maybe' is not one of 'keep', 'drop'"),
        (["--no-such-option"], "No such option: --no-such-option"),
        (["--config", "absent.toml"], "absent.toml"),
    ],
)
def test_wrong_usage(harness, ratings, arguments, message):
    ended = run(harness, ratings, *arguments)
    assert ended.code == USAGE
    assert message in ended.error
    assert not Path("runs").exists()


def test_an_unknown_data_set_is_corrected(harness):
    ended = harness("run", "--dataset", "scientifc")
    assert ended.code == USAGE
    assert "unknown data set 'scientifc', and no such path; did you mean 'scientific'?" in ended.error


def test_options_for_files_beside_a_named_data_set(harness):
    ended = harness("run", "--dataset", "demo", "--core", "5")
    assert ended.code == USAGE
    assert "'demo' is prepared in a fixed way" in ended.error


def test_a_cause_that_several_cells_share_is_told_twice_at_most_and_stops_no_other(harness, ratings):
    """Once when it happens, once in the summary."""
    Path("items.csv").write_text("item_id,title\n" + "".join(f"i{item},--\n" for item in range(13)))
    options = ("--user-col", "user_id", "--item-col", "parent_asin", "--metadata", "items.csv")
    header = "user_id,parent_asin,rating,timestamp\n"
    ratings.write_text(header + ratings.read_text())
    dims = ("--set", "tiger.text.dim=2", "--set", "letter.text.dim=2")
    ended = run(harness, ratings, "--methods", "popularity,tiger", "--seeds", "3", *options, *dims)
    assert ended.code == FAILED
    assert "Popularity" in ended.out
    assert "3 of 6 cells failed:" in ended.err
    assert "  TIGER, seed 0; TIGER, seed 1; TIGER, seed 2: no item text holds a word; check the metadata" in ended.err
    assert ended.err.count("no item text holds a word") == 2
    assert "TIGER, seed 0: test: skipped, since it needs what failed" in ended.err
    assert "give the same command again" in ended.err


def test_a_loss_that_is_not_finite_names_step_and_stage(harness, ratings):
    ended = run(harness, ratings, "--methods", "sasrec,popularity", "--set", "sasrec.learning_rate=1e30")
    assert ended.code == FAILED
    assert "every loss must be finite" in ended.err
    assert "in stage 'sasrec', phase" in ended.err
    assert "step" in ended.err


def test_two_processes_on_the_same_run(harness, ratings):
    assert run(harness, ratings, "--methods", "popularity").code == 0
    (folder,) = Path("runs").glob("*/*/*/*/seed=0")
    (folder / "DONE").unlink()
    with locked(folder / ".lock", "the run", 0):
        ended = run(harness, ratings, "--methods", "popularity,markov", "--busy", "leave")
    assert ended.code == FAILED
    assert "1 of 2 cells failed" in ended.err
    assert "another process works on the run 'Popularity, seed 0'; give the same command again" in ended.err
    assert run(harness, ratings, "--methods", "popularity").code == 0


def test_a_checkpoint_that_was_cut_short(harness, ratings):
    tiny = ["--methods", "sasrec", "--set", "sasrec.epochs=1"]
    assert run(harness, ratings, *tiny).code == 0
    (checkpoint,) = Path("cache/sasrec").glob("*/sasrec.safetensors")
    os.truncate(checkpoint, checkpoint.stat().st_size // 2)
    (done,) = Path("runs").glob("*/*/*/*/seed=0/DONE")
    done.unlink()
    ended = run(harness, ratings, *tiny)
    assert ended.code == FAILED
    assert "must be a whole checkpoint, but it is cut short or damaged" in ended.err


def test_a_prepared_file_that_was_cut_short(harness, ratings):
    assert harness("data", "prepare", str(ratings)).code == 0
    (table,) = Path("cache/prepared").glob("*/train.parquet")
    os.truncate(table, table.stat().st_size // 2)
    ended = run(harness, ratings)
    assert ended.code == USAGE
    assert "train.parquet: damaged" in ended.error
    assert harness("data", "prepare", str(ratings)).code == 0
    assert run(harness, ratings, "--methods", "popularity").code == 0


def test_a_folder_that_cannot_be_written(harness, ratings):
    Path("file").write_text("in the way")
    ended = run(harness, ratings, "--methods", "popularity", "--runs-dir", "file/runs")
    assert ended.code == USAGE
    assert "Not a directory" in ended.error


def test_a_full_disk(harness, ratings, monkeypatch):
    def full(source, target):
        raise OSError(errno.ENOSPC, "No space left on device", str(source))

    monkeypatch.setattr(os, "rename", full)
    ended = run(harness, ratings)
    assert ended.code != 0
    assert "No space left on device" in ended.error


def test_a_fault_of_ours_leaves_its_traceback_in_a_file(harness, monkeypatch):
    monkeypatch.setattr("results.store.find.find_runs", lambda *_, **__: 1 / 0)
    ended = harness("ls")
    assert ended.code == FAILED
    assert "ZeroDivisionError: division by zero (an error of the harness" in ended.error
    path = Path(ended.error.rsplit(" ", 1)[1].rstrip(")"))
    assert "Traceback" in path.read_text()
    path.unlink()
    assert "Traceback" in harness("ls", "--debug").err
