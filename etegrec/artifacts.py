"""What a fit of ETEGRec needs from other stages, and the files that it leaves for later ones (METHODS C.3, D.1)."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from etegrec.config import ETEGRecConfig
from etegrec.model import ETEGRec
from harness.artifacts import CODES_FILE, TOKENIZER, item_vectors
from harness.generative.generator import GENERATOR_FILE
from harness.generative.tokenizer.codes import CodeTable
from harness.interfaces import Need
from harness.training.checkpoints import load_tensors, save_tensors

# Beside the generator and the codes in a fit's folder.
TOKENIZER_FILE = "tokenizer.safetensors"
ADAPTERS_FILE = "adapters.safetensors"


def needs(config: ETEGRecConfig) -> dict[str, Need]:
    """The item vectors and the pre-trained tokenizer.

    W/o ETE, the trained ETEGRec whose codes are taken; w/o AT but fine-tuned, the jointly trained one too, since w/o AT
    by itself is a row of the same table.
    """
    if not config.end_to_end:
        return {"etegrec": Need("etegrec", config.replace(end_to_end=True))}
    vectors = item_vectors(config)
    found = {"vectors": vectors, "tokenizer": Need(TOKENIZER, config.tokenizer, {"vectors": vectors})}
    if not config.alternating and config.finetuning.epochs:
        jointly = config.replace(finetuning=config.finetuning.replace(epochs=0))
        found["etegrec"] = Need("etegrec", jointly)
    return found


def save_parts(model: ETEGRec, folder: Path) -> None:
    """Writes tokenizer and adapters; the recommender itself writes the generator and the codes."""
    save_tensors(folder / TOKENIZER_FILE, model.tokenizer.state_dict())
    save_tensors(folder / ADAPTERS_FILE, adapters(model).state_dict())


def restore(model: ETEGRec, folder: Path, keys: tuple[str, ...]) -> None:
    """Puts a fit's weights and codes into the model."""
    model.generator.load_state_dict(load_tensors(folder / GENERATOR_FILE))
    model.tokenizer.load_state_dict(load_tensors(folder / TOKENIZER_FILE))
    adapters(model).load_state_dict(load_tensors(folder / ADAPTERS_FILE))
    model.codes_NL.copy_(CodeTable.load(folder / CODES_FILE, keys).codes)


def adapters(model: ETEGRec) -> nn.ModuleDict:
    """Both adapters, under the names that their file gives them."""
    return nn.ModuleDict({"sia": model.sia_adapter, "psa": model.psa_adapter})
