"""What a log shows of long work. Oracle: the lines written out by hand."""

import io

from rich.console import Console

from harness.cli.progress import Jobs, Lines
from harness.interfaces import Progress
from harness.jobs.graph import Outcome


def lines_of(every_seconds: float) -> list[str]:
    out = io.StringIO()
    jobs = Jobs({"fit": "SASRec, seed 0"}, 1, frozenset({"fit"}))
    lines = Lines(jobs, Console(file=out, width=200), every_seconds)
    jobs.started("fit")
    lines.message("fit", Progress("sasrec", 1, 20, 5.25, None))
    lines.message("fit", Progress("sasrec", 2, 20, 4.5, 0.01, best=0.02))
    lines.waiting("Markov, seed 0")
    lines.ended("fit", Outcome("failed", error="a loss is nan"))
    return out.getvalue().splitlines()


def test_a_long_job_has_a_line_with_epoch_loss_best_score_and_time_left() -> None:
    first, second, waiting, end = lines_of(every_seconds=0.0)
    assert first == "SASRec, seed 0: sasrec, epoch 1 of 20, loss 5.2500"
    assert second.startswith(
        "SASRec, seed 0: sasrec, epoch 2 of 20, loss 4.5000, best validation NDCG@10 0.0200, at most"
    )
    assert waiting == "Markov, seed 0: another process works on it; waiting for it (--busy leave ends instead)"
    assert end == "[1/1] SASRec, seed 0: failed: a loss is nan"


def test_a_short_job_has_one_line_at_its_end() -> None:
    assert len(lines_of(every_seconds=60.0)) == 2
