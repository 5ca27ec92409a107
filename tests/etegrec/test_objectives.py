"""Oracles: scipy's entropies, loops written out, a dictionary of first occurrences, and properties."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax
from scipy.stats import entropy

from etegrec.objectives import first_occurrences, l_psa, l_sia


def distances(seed: int) -> torch.Tensor:
    return 4 * torch.rand(5, 3, 7, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("sign", ["minus", "plus"])
@pytest.mark.parametrize("level_reduction", ["mean", "sum"])
def test_sia_equals_scipy_s_divergences(sign: str, level_reduction: str) -> None:
    z, e = distances(0), distances(1)
    factor = -1 if sign == "minus" else 1
    p, q = softmax(factor * z.numpy(), axis=-1), softmax(factor * e.numpy(), axis=-1)
    divergence_BL = entropy(p, q, axis=-1) + entropy(q, p, axis=-1)
    expected = divergence_BL.mean() if level_reduction == "mean" else divergence_BL.sum(1).mean()
    assert l_sia(z, e, sign=sign, level_reduction=level_reduction).item() == pytest.approx(expected)


@pytest.mark.parametrize("sign", ["minus", "plus"])
def test_sia_is_zero_for_equal_inputs_and_positive_for_others(sign: str) -> None:
    assert l_sia(distances(0), distances(0), sign=sign).item() == 0
    assert l_sia(distances(0), distances(1), sign=sign).item() > 0


def test_sia_is_symmetric_and_ignores_an_offset_of_all_distances() -> None:
    z, e = distances(0), distances(1)
    assert l_sia(z, e).item() == pytest.approx(l_sia(e, z).item())
    assert l_sia(z + 3, e).item() == pytest.approx(l_sia(z, e).item())


def test_psa_equals_the_two_cross_entropies_written_out() -> None:
    stream = np.random.default_rng(0)
    z, h = stream.standard_normal((4, 6)), stream.standard_normal((4, 6))
    expected = 0.0
    for i in range(4):
        for own, others in ((z, h), (h, z)):
            cosines = [own[i] @ other / np.linalg.norm(own[i]) / np.linalg.norm(other) / 0.07 for other in others]
            expected -= cosines[i] - math.log(sum(math.exp(cosine) for cosine in cosines))
    result = l_psa(torch.from_numpy(z), torch.from_numpy(h), 0.07).item()
    assert result == pytest.approx(expected / 4)


def test_psa_ignores_lengths_and_prefers_own_directions() -> None:
    z = torch.randn(6, 8, generator=torch.Generator().manual_seed(0))
    h = torch.randn(6, 8, generator=torch.Generator().manual_seed(1))
    scale = torch.rand(6, 1) + 0.5
    torch.testing.assert_close(l_psa(z * scale, h), l_psa(z, h))
    assert l_psa(z, z) < l_psa(z, h)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=40))
def test_first_occurrences_equal_a_dictionary_s(targets: list[int]) -> None:
    seen: dict[int, int] = {}
    for position, target in enumerate(targets):
        seen.setdefault(target, position)
    assert first_occurrences(np.array(targets, dtype=np.int64)).tolist() == list(seen.values())
