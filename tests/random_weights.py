"""Weights that make every part of the generator matter."""

import torch

from harness.nn.code_seq2seq import CodeSeq2Seq


def randomised(model: CodeSeq2Seq, seed: int) -> CodeSeq2Seq:
    """The model with weights large enough that attention, position biases and norms all matter."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("norm.weight"):
                parameter.uniform_(0.5, 1.5, generator=generator)
            elif "bias" in name or "tokens" in name:
                parameter.normal_(std=0.5, generator=generator)
            else:
                parameter.normal_(std=0.06, generator=generator)
    return model
