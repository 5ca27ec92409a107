"""Oracles: transformers' T5 and its bucket function, published parameter counts, arithmetic by hand."""

import pytest
import torch
from random_weights import randomised
from transformers.models.t5.modeling_t5 import T5Attention

from harness.data.dataset import Sequences
from harness.nn.code_seq2seq import CodeSeq2Seq, padding_bias
from harness.nn.ragged import Ragged
from harness.nn.relative_positions import relative_buckets
from harness.nn.t5 import Decoder, T5Config
from harness.nn.transformers_twin import transformers_twin

PAPER_CODEBOOKS = (256, 256, 256, 256)


def parameter_count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_parameter_counts_at_paper_sizes_equal_those_of_the_released_model():
    model = CodeSeq2Seq(T5Config(), PAPER_CODEBOOKS)
    assert parameter_count(model.encoder) == 1_574_656
    assert parameter_count(model.decoder) == 2_361_856
    assert parameter_count(model.tokens) == 131_200
    assert parameter_count(model) == 1_574_656 + 2_361_856 + 131_200


def test_weights_are_drawn_with_standard_deviation_002_and_norm_scales_are_one():
    torch.manual_seed(0)
    for name, parameter in CodeSeq2Seq(T5Config(), PAPER_CODEBOOKS).named_parameters():
        if name.endswith("norm.weight"):
            assert torch.equal(parameter, torch.ones_like(parameter))
        else:
            tolerance = 0.02 * 4 / (2 * parameter.numel()) ** 0.5  # four standard errors
            assert parameter.std().item() == pytest.approx(0.02, abs=tolerance), name


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize(("num_buckets", "max_distance"), [(32, 128), (8, 20)])
def test_relative_buckets_equal_those_of_transformers(bidirectional, num_buckets, max_distance):
    delta = torch.arange(-300, 301)
    ours = relative_buckets(delta, bidirectional=bidirectional, num_buckets=num_buckets, max_distance=max_distance)
    theirs = T5Attention._relative_position_bucket(delta, bidirectional, num_buckets, max_distance)
    assert torch.equal(ours, theirs)


def test_relative_buckets_of_a_few_distances_worked_out_by_hand():
    delta = torch.tensor([0, -7, -8, -127, -500, 1, 7, 8])
    buckets = relative_buckets(delta, bidirectional=True, num_buckets=32, max_distance=128)
    assert buckets.tolist() == [0, 7, 8, 15, 15, 17, 23, 24]


def test_states_and_logits_at_paper_sizes_equal_transformers_with_the_same_weights():
    model = randomised(CodeSeq2Seq(T5Config(), PAPER_CODEBOOKS), seed=1).eval()
    twin = transformers_twin(model)
    generator = torch.Generator().manual_seed(2)
    codes_NL = torch.randint(0, 256, (31, 4), generator=generator)
    items_BS = torch.randint(1, 31, (5, 40), generator=generator)
    for row, length in enumerate([40, 1, 7, 23, 40]):
        items_BS[row, length:] = 0
    target_codes_BL = torch.randint(0, 256, (5, 4), generator=generator)
    histories = Sequences.from_rows([[item for item in row if item] for row in items_BS.tolist()])

    offsets = torch.arange(4) * 256
    mask = (items_BS > 0).repeat_interleave(4, dim=1)
    tokens = (codes_NL[items_BS] + offsets).flatten(1).masked_fill(~mask, 1024)
    inputs = torch.cat([torch.full((5, 1), 1024), (target_codes_BL + offsets)[:, :3]], dim=1)
    with torch.no_grad():
        expected = twin(input_ids=tokens, attention_mask=mask.long(), decoder_input_ids=inputs)
        states_BSD, mask_BS = model.encode(histories, codes_NL).padded()
        output = model(histories, target_codes_BL, codes_NL)

    assert expected.logits.std() > 0.1  # an output that the comparison can tell from zero
    assert torch.equal(mask_BS, mask)
    torch.testing.assert_close(states_BSD[mask], expected.encoder_last_hidden_state[mask], atol=1e-4, rtol=0)
    for level in range(4):
        expected_level = expected.logits[:, level, level * 256 : (level + 1) * 256]
        torch.testing.assert_close(output.logits_LBK[level], expected_level, atol=1e-4, rtol=0)


def test_padding_bias_is_none_exactly_where_nothing_is_padded():
    assert padding_bias(torch.ones(2, 3, dtype=torch.bool)) is None
    bias = padding_bias(torch.tensor([[True, True], [True, False]]))
    assert bias.tolist() == [[[[0.0, 0.0]]], [[[0.0, -torch.inf]]]]


@pytest.mark.parametrize("count", [1, 3, 8, 14, 15, 16, 19])
def test_decoder_rows_that_attend_side_by_side_have_the_states_and_gradients_of_rows_alone(count):
    config = T5Config(d_model=16, d_ff=32, num_heads=2, d_head=8, encoder_layers=1, decoder_layers=2, dropout=0)
    decoder = randomised(Decoder(config), seed=2).double()
    generator = torch.Generator().manual_seed(3)
    x_ND = torch.randn(count * 3, 16, generator=generator, dtype=torch.double)
    states_ND = torch.randn(count * 2, 16, generator=generator, dtype=torch.double)

    def states(rows: int, x_ND: torch.Tensor, states_ND: torch.Tensor) -> torch.Tensor:
        return decoder(x_ND, 3, states_ND, Ragged.uniform(rows, 2, torch.device("cpu")))

    together = states(count, x_ND, states_ND)
    pairs = zip(x_ND.split(3), states_ND.split(2), strict=True)
    alone = torch.cat([states(1, *pair) for pair in pairs])
    torch.testing.assert_close(together, alone)
    parameters, upstream = list(decoder.parameters()), torch.randn_like(alone)
    found = torch.autograd.grad(together, parameters, upstream)
    for a, b in zip(found, torch.autograd.grad(alone, parameters, upstream), strict=True):
        torch.testing.assert_close(a, b)
