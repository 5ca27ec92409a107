"""The alignment of preferences and semantics. Oracles: a slow reference on the fitted model itself, counts by hand."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_etegrec import TINY, tiny_dataset, tiny_training
from torch import nn
from torch.nn.functional import cosine_similarity

from etegrec.alignment import FittedETEGRec, alignment_frame, choose_cases, cosines, tsne
from etegrec.training import ETEGRecTraining
from harness.config import to_toml
from harness.data.dataset import Sequences
from harness.data.samples import PrefixSamples
from harness.errors import DataError, UsageError
from harness.training.checkpoints import save_tensors
from harness.training.loop import train


def fitted(folder: Path) -> ETEGRecTraining:
    """A trained model, and its files as a run's folder has them."""
    training = tiny_training(folder)
    train(training.first_stage(), training.context)
    model = training.model
    training.recommender().save(folder)
    save_tensors(folder / "tokenizer.safetensors", model.tokenizer.state_dict())
    adapters = nn.ModuleDict({"sia": model.sia_adapter, "psa": model.psa_adapter})
    save_tensors(folder / "adapters.safetensors", adapters.state_dict())
    (folder / "config.toml").write_text(to_toml({"etegrec": TINY.model_dump(mode="json")}))
    return training


def test_preferences_and_semantics_are_those_of_the_model_that_was_fitted(tmp_path: Path) -> None:
    model = fitted(tmp_path).model.eval()
    dataset = tiny_dataset()
    cases = choose_cases(dataset, num_items=4, per_item=3)
    loaded = FittedETEGRec.load(tmp_path, dataset)
    own_B, other_B = cosines(loaded.preferences(cases.histories), loaded.semantics(cases.items), cases)
    for row, target in enumerate(cases.targets):
        history = Sequences.from_rows([cases.histories.row(row).tolist()])
        summary = model.generator.summary(history, model.codes_NL)
        preference = model.psa_adapter(summary.bos_BD)[0]
        found = {}
        for item in cases.items:
            semantics = model.tokenizer(model.vectors_ND[[item]]).reconstruction_BZ[0]
            found[item] = cosine_similarity(preference, semantics, dim=0).item()
        own = found.pop(target)
        assert own_B[row] == pytest.approx(own, abs=1e-5)
        assert other_B[row] == pytest.approx(sum(found.values()) / 3, abs=1e-5)


def test_cases_are_histories_that_their_items_follow() -> None:
    dataset = tiny_dataset()
    cases = choose_cases(dataset, num_items=6, per_item=4)
    assert len(cases.items) == 6
    assert [int((cases.targets == item).sum()) for item in cases.items] == [4] * 6
    prefixes = PrefixSamples.of(dataset)
    histories, targets = prefixes.batch(np.arange(len(prefixes)))
    seen = {
        False: {(*histories.row(row).tolist(), int(target)) for row, target in enumerate(targets)},
        True: {
            (*dataset.validation.histories.row(row).tolist(), int(target))
            for row, target in enumerate(dataset.validation.targets)
        },
    }
    for row, (target, is_valid) in enumerate(zip(cases.targets, cases.from_validation, strict=True)):
        assert (*cases.histories.row(row).tolist(), int(target)) in seen[bool(is_valid)]


def test_validation_cases_are_taken_before_training_prefixes() -> None:
    dataset = tiny_dataset()
    counts = np.bincount(dataset.validation.targets, minlength=21)
    cases = choose_cases(dataset, num_items=5, per_item=3)
    for item in cases.items:
        assert cases.from_validation[cases.targets == item].sum() == min(3, counts[item])
    assert cases.from_validation.sum() == np.minimum(3, np.sort(counts[1:])[::-1][:5]).sum()


def test_the_same_seed_chooses_the_same_cases_and_another_seed_others() -> None:
    first, again, other = (choose_cases(tiny_dataset(), seed, num_items=4, per_item=3) for seed in (0, 0, 1))
    assert np.array_equal(first.histories.items, again.histories.items)
    assert not np.array_equal(first.targets, other.targets)


def test_too_few_items_with_enough_histories_are_refused() -> None:
    with pytest.raises(DataError, match=r"must have 10 items that follow 1000 histories each, but has 0"):
        choose_cases(tiny_dataset(), per_item=1000)


def test_a_run_without_adapters_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="must hold a tokenizer and adapters, but has none"):
        FittedETEGRec.load(tmp_path, tiny_dataset())


def test_the_frame_has_a_place_for_every_history_and_item_and_is_the_same_each_time(tmp_path: Path) -> None:
    fitted(tmp_path)
    dataset = tiny_dataset()
    cases = choose_cases(dataset, num_items=8, per_item=4)
    model = FittedETEGRec.load(tmp_path, dataset)
    frame = alignment_frame(model, cases, dataset.catalog.keys, "ETEGRec")
    assert frame["kind"].to_list() == ["preference"] * 32 + ["item"] * 8
    assert frame["key"].to_list() == [f"item-{item}" for item in frame["item"]]
    assert frame["x"].is_finite().all()
    assert frame.equals(alignment_frame(model, cases, dataset.catalog.keys, "ETEGRec"))


def test_tsne_keeps_two_heaps_apart() -> None:
    random = np.random.default_rng(0)
    heaps = np.concatenate([random.normal(centre, 0.1, (20, 5)) for centre in (0.0, 5.0)])
    places = torch.from_numpy(tsne(heaps))
    apart = torch.cdist(places, places)
    assert apart[:20, :20].max() < apart[:20, 20:].min()
