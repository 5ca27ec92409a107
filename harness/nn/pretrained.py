"""A generator whose blocks start from a pre-trained T5: weights as transformers names and stores them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from harness.errors import DataError
from harness.nn.code_seq2seq import CodeSeq2Seq

WEIGHTS = "model.safetensors"


def weights_file(name: str) -> Path:
    """The file of weights in a folder, or of `OWNER/NAME@REVISION` of the Hugging Face hub, downloaded when needed.

    The revision is asked for, since what a branch holds may change.
    """
    # Here, since every process that fits or looks up methods imports this module, and hardly any downloads.
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    if Path(name).is_dir():
        return Path(name) / WEIGHTS
    repository, _, revision = name.partition("@")
    if not revision:
        raise DataError(
            f"pretrained '{name}' must be a folder with {WEIGHTS}, or OWNER/NAME@REVISION of a hub; there is no such "
            "folder, and no revision is given"
        )
    try:
        endpoint = os.environ.get("HF_ENDPOINT")
        return Path(hf_hub_download(repository, WEIGHTS, revision=revision, endpoint=endpoint))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise DataError(
            f"pretrained '{name}': {WEIGHTS} cannot be downloaded ({str(error).splitlines()[0]}); give a folder"
        ) from None


def load_blocks(model: CodeSeq2Seq, path: Path) -> None:
    """Copies encoder and decoder, without token tables, from a T5 (v1.0) of the same sizes; `DataError` for others."""
    try:
        weights = load_file(path)
    except (OSError, SafetensorError) as error:
        raise DataError(f"{path} must hold a T5's weights, but cannot be read ({error}); give another") from None
    with torch.no_grad():
        for name, ours, theirs in _pairs(model):
            missing = [each for each in theirs if each not in weights]
            if missing:
                raise DataError(f"{path} must hold a T5 of {_sizes(model)}, but has no {missing[0]}; give another")
            found = torch.cat([weights[each] for each in theirs])
            if found.shape != ours.shape:
                raise DataError(
                    f"{path} must hold a T5 of {_sizes(model)}, but its {name} is {tuple(found.shape)} where "
                    f"{tuple(ours.shape)} is needed; set the generator's sizes to the file's"
                )
            ours.copy_(found)


def _sizes(model: CodeSeq2Seq) -> str:
    config = model.config
    return (
        f"{config.encoder_layers} and {config.decoder_layers} layers, d_model={config.d_model}, "
        f"{config.num_heads} heads of {config.d_head}, d_ff={config.d_ff}"
    )


def _pairs(model: CodeSeq2Seq) -> Iterator[tuple[str, Tensor, list[str]]]:
    """Of each weight: its name, ours, and the names of those that it holds one below another."""
    stacks: dict[str, Any] = {"encoder": model.encoder, "decoder": model.decoder}  # mypy knows no part of a ModuleList
    for side, stack in stacks.items():
        first = f"{side}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
        yield first, stack.bias.weight, [first]
        yield f"{side}.final_layer_norm", stack.norm.weight, [f"{side}.final_layer_norm.weight"]
        for number, layer in enumerate(stack.layers):
            block = f"{side}.block.{number}.layer"
            maps = {
                f"{block}.0.SelfAttention.": {"qkv": layer.attention.qkv, "o": layer.attention.out},
                f"{block}.{1 if side == 'encoder' else 2}.DenseReluDense.": {
                    "wi": layer.feed_forward.wi,
                    "wo": layer.feed_forward.wo,
                },
            }
            norms = [layer.attention.norm, layer.feed_forward.norm]
            if side == "decoder":
                cross = layer.cross_attention
                maps[f"{block}.1.EncDecAttention."] = {"q": cross.q, "kv": cross.kv, "o": cross.out}
                norms.insert(1, cross.norm)
            for prefix, linears in maps.items():
                for letters, linear in linears.items():
                    names = [letters] if letters in ("wi", "wo") else list(letters)
                    yield prefix + letters, linear.weight, [f"{prefix}{each}.weight" for each in names]
            for place, norm in enumerate(norms):
                yield f"{block}.{place}.layer_norm", norm.weight, [f"{block}.{place}.layer_norm.weight"]
