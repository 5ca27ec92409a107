"""How a run is watched: bars on a terminal, a plain line per finished job elsewhere; always on stderr."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn
from rich.text import Text

from harness.experiment.estimate import num_jobs
from harness.experiment.place import Place, run_key
from harness.experiment.plan import Plan
from harness.experiment.run import CellResult, run_plan
from harness.interfaces import Progress as Epoch
from harness.jobs.graph import Observer, Outcome, RunJobs
from harness.jobs.local import run_jobs
from results.terminal.quantities import duration

WIDE = 110  # columns of a terminal that has room for bars
LINE_SECONDS = 30.0  # between two lines of a job where there are no bars


def job_labels(plan: Plan) -> dict[str, str]:
    """What each job does, by its key: a cell's fit and its test bear the cell's name, shared stages their kind's."""
    labels = {stage.key: f"{stage.kind}, seed {stage.seed}" for stage in plan.stages}
    labels |= {cell.fit.key: cell.label for cell in plan.cells}
    return labels | {run_key(cell): f"{cell.label}: test" for cell in plan.cells}


@contextmanager
def working(what: str) -> Iterator[None]:
    """Shows on a terminal that something is being done while the block lasts."""
    with Console(stderr=True).status(what):
        yield


def headed(name: str) -> None:
    """Says on stderr of what data set the following lines are."""
    Console(stderr=True, highlight=False).print(Text(f"{name}:", "bold"))


@contextmanager
def told() -> Iterator[Callable[[str], None]]:
    """Shows on a terminal what the given function was last told while the block lasts."""
    with Console(stderr=True).status("") as status:
        yield lambda what: status.update(escape(what))


def observed_results(plan: Plan, place: Place, execute: RunJobs = run_jobs, *, waits: bool = True) -> list[CellResult]:
    """What `run_plan` returns, shown as it goes on."""
    with observed_jobs(job_labels(plan), num_jobs(plan, place), frozenset(c.fit.key for c in plan.cells)) as observer:
        return run_plan(plan, place, observer, execute=execute, waits=waits)


@contextmanager
def observed_jobs(labels: dict[str, str], total: int, recommenders: frozenset[str]) -> Iterator[Observer]:
    """Shows how jobs go on while the block lasts, by their labels; `total` are expected.

    The scores of `recommenders` are validation NDCG@10.
    """
    console = Console(stderr=True, highlight=False)
    jobs = Jobs(labels, total, recommenders)
    if not console.is_terminal:
        lines = Lines(jobs, console)
        yield Observer(jobs.started, lines.message, lines.ended, lines.waiting)
        return
    bars = bars_on(console)
    watcher = Bars(jobs, bars)
    with bars:
        yield Observer(watcher.started, watcher.message, watcher.ended, Lines(jobs, console).waiting)


@dataclass
class Jobs:
    """The jobs that were started, and the last thing that each reported."""

    labels: dict[str, str]
    total: int
    recommenders: frozenset[str]  # jobs whose score is validation NDCG@10; a tokenizer's is another
    begun: dict[str, float] = field(default_factory=dict)
    last: dict[str, Epoch] = field(default_factory=dict)
    finished: int = 0

    def started(self, key: str) -> None:
        """Notes when a job began."""
        self.begun[key] = time.monotonic()

    def message(self, key: str, epoch: Epoch) -> None:
        """Notes a job's last epoch."""
        self.last[key] = epoch

    def ended(self, key: str, outcome: Outcome) -> str:
        """The line that tells how a job ended."""
        self.finished += 1
        where = f"[{self.finished}/{self.total}] {self.labels[key]}"
        if outcome.status == "skipped":
            return f"{where}: skipped, since it needs what failed"
        if outcome.status != "done":
            return f"{where}: {outcome.status}: {outcome.error}"
        took = duration(time.monotonic() - self.begun[key])
        score = self.score(key)
        return f"{where}: done in {took}" + (f", best validation NDCG@10 {score}" if score else "")

    def score(self, key: str) -> str:
        """A recommender's best validation score in its present stage, as it is shown."""
        epoch = self.last.get(key)
        return "" if key not in self.recommenders or epoch is None or epoch.best is None else f"{epoch.best:.4f}"


class Lines:
    """A line when a job ends, and of a long one every half a minute: for logs, where bars cannot be drawn."""

    def __init__(self, jobs: Jobs, console: Console, every_seconds: float = LINE_SECONDS):
        self.jobs = jobs
        self.console = console
        self.every_seconds = every_seconds
        self.told: dict[str, float] = {}  # when a job last had a line
        self.stages: dict[str, tuple[str, float, int]] = {}  # a job's stage, and the time and epoch at which it began

    def message(self, key: str, epoch: Epoch) -> None:
        """Notes an epoch; prints it where the job's last line is old."""
        self.jobs.message(key, epoch)
        now = time.monotonic()
        if key not in self.stages or self.stages[key][0] != epoch.stage:
            self.stages[key] = epoch.stage, now, epoch.epoch
        _, since, first = self.stages[key]
        if now - self.told.get(key, self.jobs.begun[key]) < self.every_seconds:
            return
        self.told[key] = now
        left = duration((now - since) * (epoch.epochs - epoch.epoch) / max(1, epoch.epoch - first))
        score = self.jobs.score(key)
        print_line(
            self.console,
            f"{self.jobs.labels[key]}: {epoch.stage}, epoch {epoch.epoch} of {epoch.epochs}, loss {epoch.loss:.4f}"
            + (f", best validation NDCG@10 {score}" if score else "")
            + (f", at most {left} left in this stage" if epoch.epoch > first else ""),
        )

    def ended(self, key: str, outcome: Outcome) -> None:
        """Prints how a job ended."""
        print_line(self.console, self.jobs.ended(key, outcome))

    def waiting(self, label: str) -> None:
        """Says what the command waits for."""
        print_line(self.console, f"{label}: another process works on it; waiting for it (--busy leave ends instead)")


class Bars:
    """One bar per running job."""

    def __init__(self, jobs: Jobs, bars: Progress):
        self.jobs = jobs
        self.bars = bars
        self.tasks: dict[str, TaskID] = {}
        wide = bars.console.width >= WIDE
        self.loss_label = "loss " if wide else ""
        self.score_label = "NDCG@10 " if wide else ""

    def started(self, key: str) -> None:
        """Adds a bar."""
        self.jobs.started(key)
        label = escape(self.jobs.labels[key])
        self.tasks[key] = self.bars.add_task(label, total=None, stage="", loss="", score="", since=None)

    def message(self, key: str, epoch: Epoch) -> None:
        """Moves a bar to the epoch reported."""
        before = self.jobs.last.get(key)
        self.jobs.message(key, epoch)
        score = self.jobs.score(key)
        if before is None or before.stage != epoch.stage:
            self.bars.update(self.tasks[key], since=(time.monotonic(), epoch.epoch))
        self.bars.update(
            self.tasks[key],
            completed=epoch.epoch,
            total=epoch.epochs,
            stage=escape(epoch.stage),
            loss=f"{self.loss_label}{epoch.loss:.3f}",
            score=self.score_label + score if score else "",
        )

    def ended(self, key: str, outcome: Outcome) -> None:
        """Replaces a bar by a line above the others."""
        self.removed(key)
        print_line(self.bars.console, self.jobs.ended(key, outcome))

    def removed(self, key: str) -> None:
        """Takes a bar away."""
        if key in self.tasks:
            self.bars.remove_task(self.tasks.pop(key))


def print_line(console: Console, line: str) -> None:
    console.print(Text(line), soft_wrap=True)


class TimeLeft(ProgressColumn):
    """Time to the stage's last epoch at the pace since this process began it; early stopping may end it before."""

    def render(self, task: Task) -> Text:
        """The column's text."""
        since = task.fields["since"]
        if since is None or task.total is None or task.completed <= since[1]:
            return Text("")
        pace = (time.monotonic() - since[0]) / (task.completed - since[1])
        return Text(f"≤ {duration(pace * (task.total - task.completed))}", "cyan")


class EpochsDone(ProgressColumn):
    """Epochs done and epochs at most."""

    def render(self, task: Task) -> Text:
        """The column's text."""
        return Text("" if task.total is None else f"{task.completed:.0f}/{task.total:.0f}", "green")


def bars_on(console: Console) -> Progress:
    wide = console.width >= WIDE
    return Progress(
        TextColumn("{task.description}"),
        TextColumn("{task.fields[stage]}", style="dim"),
        *([BarColumn(bar_width=None)] if wide else []),
        EpochsDone(),
        TextColumn("{task.fields[loss]}"),
        TextColumn("{task.fields[score]}", style="bold"),
        TimeLeft(),
        console=console,
        transient=True,
        expand=wide,
    )
