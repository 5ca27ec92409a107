"""`harness report` as its user sees it. Oracles: the plan that a printed command makes, files on disk."""

import json
import re
import shlex
from pathlib import Path

import pytest
from report_runs import write_report_runs

from harness.cli import values
from harness.config import to_toml
from harness.data.open import Source, open_dataset
from harness.data.prepare import load_dataset
from harness.experiment.plan import Settings, make_plan
from harness.experiment.reproduce import command_for, together
from harness.experiment.settings import overlaid
from harness.interfaces import Contract
from harness.methods import method_named, methods
from results.store.schema import RunRecord
from results.store.selection import RowRuns

SMOKE = Path(__file__).parents[2] / ".ci" / "smoke.toml"


class PlannedRun:
    """A run that was never made: what a page reads of it is in its plan."""

    def __init__(self, cell, dataset):
        self.config = to_toml({cell.method: cell.config.model_dump(mode="json")})
        self.record = RunRecord(
            dataset=dataset.name,
            dataset_fingerprint=dataset.fingerprint,
            synthetic=False,
            method=cell.method,
            title=cell.method,
            variant=cell.ablation.variant,
            variant_title=cell.ablation.title,
            config_digest=cell.config_digest,
            seed=cell.seed,
            contract=cell.settings.contract.model_dump(mode="json"),
            contract_digest=cell.settings.contract.digest(),
            preset=cell.settings.preset,
            recipe=cell.settings.recipe,
            num_parameters=0,
            seconds={},
            peak_memory_mb=0.0,
            device="cpu",
            threads=1,
            created="2025-01-01T00:00:00+00:00",
        )

        self.processes = cell.settings.processes

    def config_text(self):
        return self.config

    def environment(self):
        return {"processes": self.processes if method_named(self.record.method).is_distributed else 1}


SETTINGS = {
    "as the preset has it": Settings(),
    "with fields of every kind changed": Settings(
        contract=Contract(top_k=20, num_beams=25),
        precision="bf16",
        tables=overlaid(values.config_file(SMOKE), {"etegrec": {"mu": 0.5, "patience": 3}}),
        text_encoder="minilm",
    ),
    "by the official recipe": Settings(recipe="official", contract=Contract(decoding="released")),
    "at the paper's size": Settings(preset="paper", tables={"etegrec": {"adapter_hidden": [64, 32]}}),
}


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_the_commands_of_a_page_plan_the_very_configs_of_its_rows(harness, settings, monkeypatch):
    """On demo, whose items have texts; whether encoders are installed makes no difference here."""
    monkeypatch.setattr("harness.data.text.vectors.find_spec", lambda package: object())
    dataset = load_dataset(open_dataset(Source("demo"), Path("cache")))
    plan = make_plan(
        dataset,
        method_names=list(methods()),
        ablation_names=list(method_named("etegrec").ablations),
        seeds=[0, 2],
        settings=settings,
        optional=methods(),  # demo has no item features
    )
    runs = [PlannedRun(cell, dataset) for cell in plan.cells]
    groups = [RowRuns((runs[place], runs[place + len(runs) // 2])) for place in range(len(runs) // 2)]
    commands = [command_for(group, "demo") for group in groups]
    assert all(command.is_exact for command in commands)
    (for_all,) = together(groups, commands)
    everything = {_row(dataset.name, cell) for cell in plan.cells}
    assert _planned(harness, for_all) == everything
    for group, command in list(zip(groups, commands, strict=True))[::4]:
        planned = _planned(harness, command)  # an ablation brings the full method and its companions along
        wanted = {row for row in everything if row[1:3] == (group.record.method, group.record.variant)}
        own = {row for row in planned if row[1:3] == (group.record.method, group.record.variant)}
        assert own == wanted
        brought = {"full", *_companions(group.record.variant)}
        assert {row[1:3] for row in planned - own} <= {(group.record.method, variant) for variant in brought}


def _companions(variant):
    ablations = method_named("etegrec").ablations
    names = [name for ablation in ablations.values() if ablation.variant == variant for name in ablation.companions]
    return [ablations[name].variant for name in names]


def _planned(harness, command):
    _, *arguments = shlex.split(command.text())
    ended = harness(*arguments, "--dry-run", "--json")
    assert ended.code == 0, ended.err
    return {Path(cell["folder"]).parts[-5:] for cell in json.loads(ended.out)["cells"]}


def _row(dataset, cell):
    return (
        f"{dataset}-{cell.fit.dataset[:8]}",
        cell.method,
        cell.ablation.variant,
        cell.config_digest,
        f"seed={cell.seed}",
    )


def test_unseen_users_are_asked_for_by_their_split(harness, ratings):
    dataset = load_dataset(open_dataset(Source(str(ratings), split="unseen-users"), Path("cache")))
    plan = make_plan(dataset, method_names=["sasrec"], ablation_names=[], seeds=[0], settings=Settings(preset="paper"))
    command = command_for(RowRuns((PlannedRun(plan.cells[0], dataset),)), str(ratings))
    assert command.is_exact
    assert _planned(harness, command) == {_row("tiny-unseen-users", plan.cells[0])}


def test_a_run_that_no_command_of_this_version_gives_is_named_as_such(harness, ratings):
    dataset = load_dataset(open_dataset(Source(str(ratings)), Path("cache")))
    plan = make_plan(dataset, method_names=["markov"], ablation_names=[], seeds=[0], settings=Settings())
    run = PlannedRun(plan.cells[0], dataset)
    run.record = RunRecord(**(run.record.__dict__ | {"config_digest": "0" * 12}))
    command = command_for(RowRuns((run,)), "demo")
    assert not command.is_exact
    assert together([RowRuns((run,))], [command]) == []


def test_a_report_of_real_runs_holds_the_command_that_finds_them_done(harness, ratings):
    run = ("run", "--dataset", str(ratings), "--methods", "popularity,markov", "--seeds", "2")
    assert harness(*run, "--set", "contract.top_k=12").code == 0
    ended = harness("report", "--json")
    made = json.loads(ended.out)
    page = Path(made["path"]).read_text()
    assert made["path"] == "report-tiny.html"
    assert made["sections"] == re.findall(r"<h2 id=[^>]*>([^<]*)</h2>", page)
    assert "40" in dict(re.findall(r"<dt>([^<]*)</dt><dd>([^<]*)</dd>", page))["users"]
    (line,) = re.findall(r"<pre[^>]*><code>(harness run .*?)</code></pre>", re.sub("</?span[^>]*>", "", page))
    _, *arguments = shlex.split(line.replace("&#x27;", "'").replace("PATH/TO/tiny", str(ratings)))
    planned = json.loads(harness(*arguments, "--dry-run", "--json").out)
    assert [cell["done"] for cell in planned["cells"]] == [True] * 4
    assert str(Path.cwd()) not in page  # a page names no folder of its maker's


def test_a_report_takes_the_filters_of_a_table(harness):
    write_report_runs(Path("runs"))
    assert harness("report", "--contract", "abcd", "--out", "one.html").code == 0
    assert Path("one.html").exists()
    assert "none of data set" in harness("report", "--dataset", "scientific2018", "--preset", "paper").error
    assert "no run has a config that begins with 'ffff'" in harness("report", "--config", "ffff").error
    assert harness("report", "--paper-dataset", "Moon").code == 2
    assert "--out must be in a folder that exists" in harness("report", "--out", "none/one.html").error


def test_without_runs_it_says_how_to_make_some(harness):
    assert "harness run" in harness("report").error


def test_open_shows_the_written_page(harness, two_methods, monkeypatch):
    shown = []
    monkeypatch.setattr("webbrowser.open", shown.append)
    assert harness("report", "--out", "a b.html", "--open").code == 0
    assert shown == [Path("a b.html").resolve().as_uri()]
