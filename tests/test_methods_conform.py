"""Every registered method against the conformance suite; a class for each, so that workers can share them."""

from dataclasses import replace
from pathlib import Path

import pytest

from harness.data.dataset import Dataset
from harness.data.prepare import TEST, load_dataset, load_test
from harness.methods import methods
from harness.testing import MethodConformance
from harness.testing.conformance import short_fits

for name, method in methods().items():
    is_trained = method.family != "no training"
    facts = {"method": method, "is_seeded": is_trained, **({"margin": 0.0} if name == "popularity" else {})}
    globals()[f"Test{method.title}"] = type(f"Test{method.title}", (MethodConformance,), facts)


@pytest.mark.parametrize("name", ["popularity", "markov"])
def test_a_data_set_that_learns_of_test_targets_fails_the_suite(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    def leaking(folder: Path) -> Dataset:
        dataset = load_dataset(folder)
        if not (folder / TEST).exists():
            return dataset
        return replace(dataset, train=dataset.train.appended(load_test(folder, dataset).targets))

    monkeypatch.setattr("harness.testing.conformance.load_dataset", leaking)
    suite = type("Suite", (MethodConformance,), {"method": methods()[name], "is_seeded": False})()
    with pytest.raises(AssertionError):
        suite.test_no_tensor_of_a_fit_hangs_on_the_test_targets(short_fits(methods()[name], tmp_path))
