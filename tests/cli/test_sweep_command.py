"""`harness sweep` as its user sees it. Oracles: files on disk, other commands' output, the rule, value and remedy."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from harness.cli.sweep import spaces_of
from harness.errors import UsageError
from sweeps.summaries import load_studies

USAGE = 2
SASREC = ["--set", "sasrec.epochs=2", "--set", "sasrec.hidden_size=16", "--set", "sasrec.num_layers=1"]


def sweep(harness, ratings, *arguments):
    return harness("sweep", "--dataset", str(ratings), "--jobs", "1", *arguments)


def test_methods_get_the_same_number_of_trials_and_a_table(harness, ratings):
    arguments = ("--method", "sasrec,markov", "--trials", "2", "--seed", "1", *SASREC)
    ended = sweep(harness, ratings, *arguments)
    assert ended.code == 0
    assert ended.err.count("NDCG@10") == 4  # a line per trial
    assert [line.split()[1] for line in ended.out.splitlines() if "-tiny-" in line] == ["2/2", "2/2"]
    listed = json.loads(harness("sweep", "ls", "--json").out)
    assert [(study["method"], study["ended"], study["counts"]["complete"]) for study in listed] == [
        ("markov", 2, 2),
        ("sasrec", 2, 2),
    ]
    again = sweep(harness, ratings, *arguments, "--json")
    assert [study["name"] for study in json.loads(again.out)["studies"]] == [s["name"] for s in reversed(listed)]
    assert "NDCG@10" not in again.err  # nothing was left to do
    assert not Path("runs").exists()


def test_the_best_trials_file_is_what_finish_runs_and_its_row_says_how_many_trials_preceded(harness, ratings):
    sweep(harness, ratings, "--method", "sasrec", "--trials", "2", *SASREC)
    best = json.loads(harness("sweep", "best", "sasrec", "--toml", "best.toml", "--json").out)
    assert Path("best.toml").read_text() == best["toml"] == harness("sweep", "best", "sasrec").out
    run = ("run", "--dataset", str(ratings), "--methods", "sasrec", "--config", "best.toml", "--dry-run", "--json")
    planned = json.loads(harness(*run).out)
    assert [stage["state"] for stage in planned["stages"]] == ["cached"]  # by the best trial
    assert not planned["cells"][0]["done"]

    ended = harness("sweep", "finish", "sasrec", "--jobs", "1")
    assert ended.code == 0
    assert (
        f"The best of 2 trials: number {best['best']['number']}, validation NDCG@10 {best['best']['NDCG@10']:.4f}"
        in (ended.out)
    )
    folder = Path(planned["cells"][0]["folder"])
    assert json.loads((folder / "run.json").read_text())["trials"] == 2
    assert json.loads(harness(*run).out)["cells"][0]["done"]
    again = json.loads(harness("sweep", "finish", "sasrec", "--jobs", "1", "--json").out)
    assert [(cell["trials"], cell["folder"]) for cell in again["cells"]] == [(2, str(folder))]


def test_a_study_is_shown_with_its_trials_and_what_they_cost(harness, ratings):
    sweep(harness, ratings, "--method", "markov", "--grid", "window")
    shown = harness("sweep", "show", "markov-tiny-grid-window").out
    assert "3 of 3 trials ended" in shown
    assert "Importance of the fields: not told" in shown
    content = json.loads(harness("sweep", "show", "markov", "--json").out)
    assert [trial["window"] for trial in content["trials"]] == [5, 10, 20]
    assert content["sweep"]["sampler"] == "grid"
    (study,) = load_studies("studies")
    assert study.sweep.source["name"] == str(ratings)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--method", "popularity"], "'popularity' has nothing to search"),
        (["--method", "sasrek"], "unknown method 'sasrek'; did you mean 'sasrec'?"),
        (["--grid", "mi"], "none for 'mi'; did you mean 'mu'?"),
        (["--grid", "mu", "--space", "space.toml"], "--grid and --space exclude each other"),
        (["--space", "absent.toml"], "absent.toml"),
        (["--space", "space.toml", "--method", "markov"], "space.toml:1: [sasrec] is not searched by --method markov"),
        (["--space", "space.toml", "--method", "sasrec"], "space.toml:2: sasrec.dropout=1.5: dropout: Input should be"),
        (
            ["--config", "config.toml", "--method", "sasrec"],
            "config.toml:2: unknown field 'sasrec.epoch'; did you mean",
        ),
        (["--method", "sasrec", "--sampler", "grid", "--log-uniform"], "is a range; give it a step"),
        (["--study", "a b"], "--study must be letters, digits"),
        (["--trials", "0"], "'--trials'"),
        (["--set", "etegrec.my=1"], "unknown field 'etegrec.my'; did you mean 'mu'?"),
        (["--sampler", "best"], "'--sampler'"),
    ],
)
def test_wrong_usage_is_one_line_and_nothing_is_computed(harness, ratings, arguments, message):
    Path("space.toml").write_text("[sasrec]\ndropout = [0.5, 1.5]\n")
    Path("config.toml").write_text("[sasrec]\nepoch = 3\n")
    ended = sweep(harness, ratings, *arguments)
    assert ended.code == USAGE
    assert message in ended.error
    assert not Path("studies").exists()
    assert {path.name for path in Path("cache").glob("*")} <= {"prepared"}


@pytest.mark.parametrize(
    ("text", "arguments", "told"),
    [
        ("[sasrek]\ndropout = [0.5]", [], "1: a table must be a method's, but got [sasrek]; did you mean 'sasrec'?"),
        ("\n[sasrec]", [], "2: a space needs a field, but [sasrec] has none; list one, or drop the table"),
        ("[sasrec]\n\ndropuot = [0.5]", [], "3: unknown field 'sasrec.dropuot'; did you mean 'dropout'?"),
        (
            "[sasrec]\ndropout = 0.5",
            [],
            "2: sasrec.dropout: a list of values or {low=, high=} must be given, but got 0.5",
        ),
        ("[sasrec]\ndropout = [\n0.5,\n9,\n]", [], "2: sasrec.dropout=9: dropout: Input should be less than 1; choose"),
        ("[sasrec]\ndropout = {low = 2, high = 1}", [], "2: sasrec.dropout"),
        ("[sasrec]\nstyle = {low = 1, high = 2}", [], "2: sasrec.style=1"),
        (
            "[sasrec]\ndropout = {low = 0.1, high = 0.2}",
            ["--sampler", "grid"],
            "2: a grid needs values that can be listed",
        ),
        ("dropout = [0.5]", [], "1: 'dropout' must stand in a table"),
    ],
)
def test_a_mistake_in_a_file_of_spaces_is_told_with_its_line(harness, ratings, text, arguments, told):
    Path("space.toml").write_text(text + "\n")
    ended = sweep(harness, ratings, "--method", "sasrec", "--space", "space.toml", *arguments)
    assert ended.code == USAGE
    assert f"space.toml:{told}" in ended.error


def test_a_database_that_is_not_there_is_one_line(harness, ratings):
    ended = harness("sweep", "ls", "--storage", "postgresql://me:secret@127.0.0.1:1/x")
    assert ended.code == 1
    assert "postgresql://me@127.0.0.1:1/x answers" in ended.error


def test_studies_that_are_not_there_are_one_line(harness, monkeypatch):
    assert "must be named, but studies holds none" in harness("sweep", "show", "x").error
    assert "no study in studies; make one with" in harness("sweep", "ls").err
    monkeypatch.setitem(sys.modules, "optuna_dashboard", None)
    assert "pip install 'etegrec-harness[dashboard]'" in harness("sweep", "dashboard", "x").error


def test_all_leaves_out_what_has_nothing_to_search_and_says_so(capsys):
    assert [space.method for space in spaces_of("all", None, None)] == [
        "markov", "tgh-1", "tgh-2", "caser", "gru4rec", "hgn", "sasrec", "bert4rec", "fmlp-rec", "fdsa", "s3-rec",
        "hstu", "bsarec", "esasrec", "gsasrec", "p5-sid", "p5-cid", "tiger", "tiger-sas", "letter", "diger",
        "etegrec",
    ]  # fmt: skip
    assert capsys.readouterr().err == "Popularity has nothing to search and is left out\n"
    with pytest.raises(UsageError, match="nothing to search"):
        spaces_of("sasrec,popularity", None, None)


def test_help_imports_nothing_heavy():
    code = (
        "import sys\nfrom harness.cli import main\ntry: main(['sweep', '--help'])\nexcept SystemExit: pass\n"
        "sys.exit(', '.join({'torch', 'polars', 'numpy', 'optuna'} & set(sys.modules)) or 0)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert "field = [values]" in " ".join(ended.stdout.replace("│", "").split())
