"""`harness published`, `verify`, and `table --published`. Oracles: files written here, values of other commands."""

import json
import shutil
from pathlib import Path

import pytest

OWN = "source,kind,dataset,method,recall@10,ndcg@10,history_masked,max_history,users,items,interactions"


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """Figures on the data set of the ratings, two of Markov and one of a method that is not run."""
    path = tmp_path / "own.csv"
    path.write_text(
        f"{OWN}\nmine,paper,tiny-known,Markov,0.98,0.5,no,50,40,13,240\n"
        "theirs,repository,tiny-known,markov,.9,,yes,,40,13,240\nmine,paper,tiny-known,HSTU,.9,,no,,40,13,240\n"
    )
    return path


def test_figures_are_listed_and_filtered(harness, own):
    assert len(json.loads(harness("published", "game", "--method", "sasrec", "--json").out)) == 8
    assert "0.0455" in harness("published", "scientific", "--kind", "paper").out
    mine = json.loads(harness("published", "tiny-known", "--published-file", str(own), "--json").out)
    assert [figure["value"] for figure in mine] == [0.98, 0.5, 0.9, 0.9]
    assert "must be one that others report on" in harness("published", "mars").error
    assert "no published figure matches" in harness("published", "game", "--method", "mine").error
    assert harness("published", "--published-file", "no.csv").code == 2


@pytest.fixture
def markov(two_methods: None) -> None:
    """A run of Markov alone."""
    (popularity,) = Path("runs").glob("*/popularity")
    shutil.rmtree(popularity)


def test_verify_tells_rules_distance_and_verdict(harness, markov, own):
    found = json.loads(harness("verify", "tiny", "--published-file", str(own), "--json").out)
    assert [check["verdict"] for check in found] == [
        "reproduced within 5 %",
        "above",
        "above",  # under its own rules: read without the history
        "no run of ours",
    ]
    assert [check["history_removed"] for check in found] == [False, False, True, False]
    masked = json.loads(harness("table", "overall", "--mask-history", "--json").out)
    assert found[2]["value"] == masked["rows"][0]["cells"][1]["value"]
    shown = json.loads(harness("show", "markov", "--json").out)["metrics"]["NDCG@10"]
    assert found[1]["value"] == pytest.approx(shown)
    assert found[1]["percent"] == pytest.approx(100 * (shown / 0.5 - 1))
    text = harness("verify", "tiny", "--published-file", str(own)).out
    assert "which is tiny-known by its counts" in text
    assert "No run of ours: HSTU (1 figures)." in text
    assert "which are the counts of no data set with published figures" in harness("verify", "tiny").error
    assert "needs finished runs of 'absent'" in harness("verify", "absent").error


def test_the_option_published_takes_a_word_or_none(harness, markov, own):
    table = ("table", "overall", "--published")
    assert harness(*table).out == harness(*table, "paper").out == harness("table", "--published", "overall").out
    both = json.loads(harness(*table, "all", "--published-file", str(own), "--json").out)
    assert [beside["label"] for beside in both["rows"][0]["beside"]] == ["mine", "theirs ≠"]
    assert "add --published elsewhere" in harness(*table, "--published-file", str(own)).error
    assert "--slice must not meet --published" in harness(*table, "all", "--slice", "new-user").error


def test_verify_takes_a_data_set_or_install(harness):
    assert "takes a data set or --install" in harness("verify").error
    assert "not both" in harness("verify", "demo", "--install").error


@pytest.mark.slow
@pytest.mark.usefixtures("jobs_in_processes")
def test_this_installation_computes_what_ours_does(harness):
    ended = harness("verify", "--install", "--json")
    content = json.loads(ended.out)
    assert (ended.code, content["agrees"], len(content["quantities"])) == (0, True, 10)


def test_the_table_of_data_sets_has_the_counts_of_a_file(harness, ratings, own, tmp_path):
    assert harness("data", "describe", str(ratings)).code == 0
    table = ("table", "datasets", "--published")
    of_tiny = tmp_path / "tiny_counts.csv"
    of_tiny.write_text(own.read_text().replace("tiny-known", "tiny").replace("13,240", "12,240"))
    text = harness(*table, "elsewhere", "--published-file", str(of_tiny)).out
    assert "published elsewhere" in text
    found = json.loads(harness(*table, "all", "--published-file", str(of_tiny), "--json").out)
    assert found["rows"][0]["beside"][0]["values"] == [40, 12, 240, 50.0, 6.0]
    assert "No source that is known here counts tiny" in harness(*table, "elsewhere").out
    assert "add --published elsewhere" in harness(*table, "--published-file", str(of_tiny)).error
