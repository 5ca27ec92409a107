"""The job of a trial: fit, then score on the validation targets. Its process need not import Optuna."""

from __future__ import annotations

from harness.data.prepare import load_dataset
from harness.evaluation.outcomes import validation_scores
from harness.experiment.compute import compute_stage, fit_context
from harness.experiment.place import Place
from harness.experiment.plan import Cell
from harness.jobs.graph import Send
from harness.methods import method_named


def score(cell: Cell, place: Place, send: Send) -> dict[str, float]:
    """NDCG@10 and Recall@10 of the fitted cell on all users' validation targets; it is fitted first if need be."""
    if not place.store.is_done(cell.fit):
        compute_stage(cell.fit, place, send)
    dataset = load_dataset(place.dataset)
    folder = place.store.folder(cell.fit)
    context = fit_context(cell.fit, place, folder, send)
    recommender = method_named(cell.method).load(folder, cell.config, dataset, context)
    return validation_scores(recommender, dataset)
