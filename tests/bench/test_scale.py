"""Growth as it is measured. Oracles: arithmetic by hand, counts, and that each part does its whole work."""

from dataclasses import replace
from functools import partial

import polars as pl
import pytest

from harness.bench import scale
from harness.bench.growth import Growth
from harness.bench.interactions import write_interactions
from harness.bench.scale import (
    MEASURES,
    Fit,
    Point,
    Scene,
    chosen,
    fits,
    grid,
    interactions_file,
    made_up,
    made_up_codes,
    measure_growth,
)
from harness.bench.scale_figure import scale_frame
from harness.bench.workload import QUICK
from harness.data.dataset import Dataset
from harness.data.samples import PrefixSamples
from harness.errors import UsageError
from harness.jobs.graph import Outcome
from harness.sequence.sasrec import SASREC
from results.figures.rendering import style


@pytest.fixture
def scene(tmp_path):
    return Scene(tmp_path, 1, QUICK)


def test_names_choose_all_measurements_that_begin_so():
    assert chosen([]) == list(MEASURES)
    assert chosen(["softmax", "trie"]) == ["softmax-full", "softmax-chunked", "softmax-sampled", "trie"]
    with pytest.raises(UsageError, match="did you mean 'ranking'"):
        chosen(["rankin9"])


def test_sizes_end_at_the_largest_allowed_and_are_three_at_least():
    assert grid("items", None) == (10_000, 30_000, 100_000, 300_000, 1_000_000)
    assert grid("items", 100_000) == (10_000, 30_000, 100_000)
    assert grid("items", 9_000) == (1000, 3000, 9000)
    assert grid("interactions", None)[-1] == 30_000_000
    assert grid("beams", 20_000)[-1] == 100


@pytest.mark.parametrize("name", [name for name in MEASURES if name != "prepare"])
def test_every_part_can_be_repeated(scene, name):
    work = MEASURES[name].build(70, scene)
    work()
    work()


def test_preparation_keeps_users_and_items_of_the_file_that_was_written(scene):
    write_interactions(interactions_file(3000, scene), 3000)
    file = pl.read_csv(interactions_file(3000, scene))
    assert (len(file), file["user_id"].n_unique() <= 300, file["parent_asin"].n_unique() <= 50) == (3000, True, True)
    assert not file["timestamp"].is_sorted()
    dataset = MEASURES["prepare"].build(3000, scene)()
    assert isinstance(dataset, Dataset)
    assert 0 < dataset.num_users <= 300
    assert set(dataset.catalog.keys) <= set(file["parent_asin"])


def test_the_same_file_is_written_each_time(tmp_path):
    write_interactions(tmp_path / "a", 500)
    write_interactions(tmp_path / "b", 500)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_made_up_data_have_the_sizes_that_are_asked_for(scene):
    dataset = made_up(1000, 7, 21)
    assert (dataset.num_items, dataset.num_users, len(PrefixSamples.of(dataset))) == (1000, 7, 7 * 20)
    table = made_up_codes(1000, scene)
    assert (table.num_items, table.num_levels, table.unique) == (1000, 4, True)


@pytest.mark.parametrize("softmax", ["full", "chunked", "sampled"])
def test_a_step_trains_the_rows_of_the_items_that_its_softmax_meets(scene, monkeypatch, softmax):
    built = []
    watched = replace(SASREC, network=lambda *parts: built.append(SASREC.network(*parts)) or built[0])
    monkeypatch.setattr(scale, "SASREC", watched)
    work = MEASURES[f"softmax-{softmax}"].build(5000, scene)
    before = built[0].item_table.weight.detach().clone()
    work()
    moved = int((before != built[0].item_table.weight).any(dim=1).sum())
    assert moved == 5000 if softmax != "sampled" else 500 < moved < 2000  # 1024 draws and the batch's own items
    assert built[0].item_table.weight[0].eq(0).all()


def test_a_fit_is_within_its_limit_up_to_the_tolerance_and_two_standard_errors():
    linear = partial(Growth, last=1.0)
    assert Fit("ranking", linear(1.09, 0.0), None).is_within is True
    assert Fit("ranking", linear(1.2, 0.04), None).is_within is False
    assert Fit("ranking", linear(1.2, 0.06), None).is_within is True
    assert Fit("ranking", linear(1.0, 0.0), linear(1.5, 0.01)).is_within is False
    assert Fit("history-t5", linear(2.05, 0.0), linear(1.9, 0.0)).is_within is True
    assert Fit("ranking", None, None).is_within is None


def points(name="ranking", memory=100.0):
    return [Point(name, size, 1e-3 * size**0.5, 0.1, 1.0, memory * size, 500.0) for size in (1, 10, 100, 1000)]


def test_time_and_memory_are_fitted_and_memory_only_where_a_process_grew():
    (fit, other) = fits([*points(), *points("trie", memory=0.1)])
    assert (fit.measure, other.measure) == ("ranking", "trie")
    assert fit.time is not None
    assert fit.memory is not None
    assert (fit.time.exponent, fit.memory.exponent) == pytest.approx((0.5, 1.0))
    assert other.memory is None  # only 100 MiB is enough, and one size makes no fit


def test_what_fails_is_told_and_the_rest_is_kept(monkeypatch, scene):
    def run_jobs(jobs, **options):
        assert options["processes"] == 1
        outcomes = {key: Outcome("done", value=points()[0]) for key in jobs}
        outcomes["ranking-30000"] = Outcome("failed", error="its process was killed", killed=True)
        return outcomes

    monkeypatch.setattr(scale, "run_jobs", run_jobs)
    found, failed = measure_growth(["ranking"], scene, 100_000, lambda what: None)
    assert len(found) == 2
    assert failed == ["ranking-30000: its process was killed"]


def test_the_picture_has_two_panels_for_each_axis_and_whole_decades():
    pytest.importorskip("matplotlib")
    from harness.bench.scale_figure import draw

    with style("scale"):
        panels = draw(scale_frame([*points(), *points("trie"), *points("beam-width")])).axes
    assert [panel.get_xlabel() for panel in panels] == ["items", "items", "beams", "beams"]
    assert [len(panel.lines) for panel in panels] == [2, 2, 1, 1]
    assert panels[0].get_ylim() == pytest.approx((1e-3, 1.0))
    texts = [text.get_text() for text in panels[1].get_legend().get_texts()]
    assert texts == ["full ranking\n0.50 ± 0.00", "trie\n0.50 ± 0.00"]
