"""The commands as their user sees them. Oracles: files on disk, arithmetic by hand, other commands' output."""

import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from etegrec.method import METHOD
from harness.config import Config
from harness.experiment.estimate import expected_seconds
from harness.stages import Stage

COMMANDS = [
    ["run"],
    ["table"],
    ["ls"],
    ["show"],
    ["methods"],
    ["published"],
    ["verify"],
    ["score"],
    ["export"],
    ["report"],
    ["figure"],
    ["bench"],
    ["clean"],
    ["doctor"],
    ["sweep"],
    *(["sweep", name] for name in ("ls", "show", "best", "finish", "dashboard")),
    *(["data", name] for name in ("list", "fetch", "prepare", "describe")),
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_help_has_an_example(harness, command):
    ended = harness(*command, "--help")
    assert ended.code == 0
    assert f"harness {' '.join(command)}" in ended.out.partition("Example")[2]


def test_a_run_prints_its_table_and_the_store_prints_it_again(harness, ratings):
    arguments = ("run", "--dataset", str(ratings), "--methods", "popularity,markov", "--seeds", "2", "--jobs", "2")
    ended = harness(*arguments)
    assert ended.code == 0
    assert "[8/8]" in ended.err  # 4 fits, 4 tests
    assert "Overall performance on tiny" in ended.out
    assert harness("table", "overall").out.strip() == ended.out.strip()
    again = harness(*arguments)
    assert (again.out, again.err) == (ended.out, "")  # nothing is computed twice


def test_json_is_all_that_stands_on_stdout(harness, ratings):
    run = ("run", "--dataset", str(ratings), "--methods", "popularity", "--json")
    planned = json.loads(harness(*run, "--dry-run").out)
    assert [stage["state"] for stage in planned["stages"]] == ["to compute"]
    assert planned["unknown_stages"] == 1
    done = json.loads(harness(*run).out)
    assert [cell["status"] for cell in done["cells"]] == ["done"]
    assert Path(done["cells"][0]["folder"], "DONE").exists()
    planned = json.loads(harness(*run, "--dry-run").out)
    assert [stage["state"] for stage in planned["stages"]] == ["cached"]
    assert planned["cells"][0]["done"]
    listed = json.loads(harness("ls", "--json").out)
    assert [(run["method"], run["finished"]) for run in listed] == [("popularity", True)]
    shown = json.loads(harness("show", "popularity", "--json").out)
    assert shown["metrics"] == listed[0]["metrics"]
    for command in ("data list", "data describe tiny.csv", "methods", "methods tiger", "doctor"):
        assert json.loads(harness(*command.split(), "--json").out)


def test_a_run_is_found_by_any_unique_part_of_its_path(harness, two_methods):
    (folder,) = Path("runs").glob("tiny-*/markov/full/*/seed=0")
    for part in (
        "markov",
        "markov/full",
        "full/" + folder.parent.name,
        f"{folder.parts[1]}/mark",
        folder.parent.name[:8],
        str(folder),
    ):
        assert "Markov, full, on tiny" in harness("show", part).out
    ended = harness("show", folder.parts[1])
    assert ended.code == 2
    assert "must mean one run, but matches 2" in ended.error


def test_a_whole_name_is_meant_before_the_beginnings_of_longer_ones(harness):
    for variant in ("wo-sia", "wo-sia-psa"):
        Path("runs/demo/etegrec", variant, "0123456789ab", "seed=0").mkdir(parents=True)
    ended = harness("show", "etegrec/wo-sia")
    assert "runs/demo/etegrec/wo-sia/0123456789ab/seed=0 is not a finished run" in ended.error
    assert "matches 2" in harness("show", "etegrec/wo-si").error


def test_a_table_is_written_whole_to_a_file(harness, two_methods):
    assert harness("table", "overall", "--format", "latex", "--out", "t.tex").out == ""
    assert r"\begin{tabular}" in Path("t.tex").read_text()
    assert "| Popularity" in harness("table", "overall", "--format", "md").out
    assert "tiny" in harness("table", "datasets").out


def test_described_counts_are_those_of_the_file(harness, ratings):
    found = json.loads(harness("data", "describe", str(ratings), "--json").out)
    assert (found["users"], found["items"], found["interactions"]) == (40, 13, 240)
    assert "40" in harness("data", "describe", str(ratings)).out


def test_printed_fields_are_a_config_file_that_changes_nothing(harness):
    for method in ("etegrec", "letter"):
        Path("config.toml").write_text(harness("methods", method).out)
        plan = ("run", "--methods", method, "--dry-run", "--json")
        assert json.loads(harness(*plan, "--config", "config.toml").out) == json.loads(harness(*plan).out)


def test_changes_that_need_each_other_may_come_in_any_order(harness):
    plan = ("run", "--methods", "letter", "--dry-run")
    widths = ("--set", "letter.vectors.hidden_size=16", "--set", "letter.tokenizer.rqvae.code_dim=16")
    assert harness(*plan, *widths).code == 0
    assert harness(*plan, *widths[:2]).code == 2
    assert harness(*plan, "--top-k", "30", "--beams", "40").code == 0


class Epochs(Config):
    epochs: int = 10
    width: int = 1


def test_time_is_expected_by_samples_and_effort_of_like_stages():
    stage = Stage("sasrec", Epochs(epochs=20), print, "data", 0, effort=20 / 8)
    like = {"config": {"epochs": 10, "width": 1}, "samples": 1000, "seconds": 50.0, "effort": 10 / 8}
    unlike = {"config": {"epochs": 10, "width": 9}, "samples": 1000, "seconds": 5000.0, "effort": 10 / 8}
    of_the_version_before = {"config": {"epochs": 10, "width": 1}, "samples": 1000, "seconds": 1e9}
    # 50 s for 10 epochs of 1,000 samples: 5 ms a sample and epoch; 20 epochs of 3,000 take 300 s.
    assert expected_seconds(stage, 3000, [like, unlike, of_the_version_before]) == pytest.approx(300.0)
    assert expected_seconds(stage, 1000, [unlike]) == pytest.approx(10_000.0)
    assert expected_seconds(stage, 3000, []) is None


def test_an_ablation_is_expected_by_the_epochs_that_it_trains_itself():
    full = METHOD.presets["lite"].replace(epochs=24, finetuning={"epochs": 8, "patience": None}, rebuilt={"epochs": 20})
    record = {"config": full.model_dump(mode="json"), "samples": 1000, "seconds": 320.0, "effort": METHOD.effort(full)}

    def expected(**changes) -> float | None:
        changed = full.replace(**changes)
        stage = Stage("etegrec", changed, print, "data", 0, effort=METHOD.effort(changed))
        return expected_seconds(stage, 1000, [record])  # 10 s an epoch

    assert expected(end_to_end=False) == pytest.approx(200.0)
    assert expected(alternating=False) == pytest.approx(80.0)  # goes on from w/o AT: fine-tuning alone
    assert expected(mu=0.0) == pytest.approx(320.0)
    # A stage without a known effort counts as one, whatever the record's.
    assert expected_seconds(Stage("mine", Epochs(), print, "d", 0, effort=math.inf), 2000, [record]) == pytest.approx(
        20
    )


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_says_how_to_go_on(ratings, tmp_path, sent):
    slow = ["--methods", "popularity,sasrec", "--set", "sasrec.epochs=100000", "--set", "sasrec.patience=none"]
    command = [sys.executable, "-m", "harness", "run", "--dataset", str(ratings), "--jobs", "2", *slow]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, env={**os.environ})
    assert process.stderr is not None
    assert "Popularity, seed 0: done" in process.stderr.readline()
    process.send_signal(sent)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert err.splitlines()[-1] == "interrupted; everything computed stays, give the same command again to go on"
    assert "Traceback" not in err


def test_the_official_recipe_decodes_as_released_unless_told_otherwise(harness, ratings, tmp_path):
    run = ("run", "--dataset", str(ratings), "--methods", "popularity", "--recipe", "official")
    assert harness(*run).code == 0
    assert harness(*run, "--decoding", "trie").code == 0
    records = [json.loads(path.read_text()) for path in (tmp_path / "runs").rglob("run.json")]
    assert sorted(record["contract"]["decoding"] for record in records) == ["released", "trie"]


def test_a_run_with_unseen_users_has_a_data_set_of_its_own(harness, ratings):
    run = ("run", "--dataset", str(ratings), "--methods", "popularity")
    assert harness(*run).code == 0
    ended = harness(*run, "--split", "unseen-users")
    assert ended.code == 0
    assert "Overall performance on tiny-unseen-users" in ended.out
    described = ("data", "describe", str(ratings))
    found = json.loads(harness(*described, "--split", "unseen-users", "--json").out)
    assert (found["name"], found["users"], found["new_users"]) == ("tiny-unseen-users", 40, 2)
    assert "New users" in harness(*described, "--protocol=unseen-users").out  # as the option was called before
    assert "New users" not in harness(*described).out


def test_options_of_a_cluster_need_one(harness, ratings, monkeypatch):
    run = ("run", "--dataset", str(ratings), "--methods", "popularity")
    assert "add --executor submitit" in harness(*run, "--slurm", "partition=gpu").error
    monkeypatch.setenv("PATH", "")
    submitted = (*run, "--executor", "submitit")
    assert "there is no srun on this machine" in harness(*submitted).error
    assert "add --slurm gpus=1" in harness(*submitted, "--device", "cuda").error
    assert "a job must be one process" in harness(*submitted, "--slurm", "nodes=2").error
