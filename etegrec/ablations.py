"""The ablations of the paper's Table 4: each a function from config to config (METHODS D.1)."""

from etegrec.config import ETEGRecConfig
from harness.interfaces import Ablation


def without_sia(config: ETEGRecConfig) -> ETEGRecConfig:
    """No sequence-item alignment, in either phase."""
    return config.replace(mu=0.0)


def without_psa(config: ETEGRecConfig) -> ETEGRecConfig:
    """No preference-semantic alignment, in either phase."""
    return config.replace(lambda_=0.0)


def without_alignments(config: ETEGRecConfig) -> ETEGRecConfig:
    """Neither alignment: tokenizer epochs minimise L_SQ alone, recommender epochs L_REC alone; alternation stays."""
    return without_psa(without_sia(config))


def without_alternation(config: ETEGRecConfig) -> ETEGRecConfig:
    """Every step moves both parts, and no fine-tuning follows: the published numbers suggest that reading (D.1)."""
    return config.replace(alternating=False, finetuning=config.finetuning.replace(epochs=0))


def without_alternation_finetuned(config: ETEGRecConfig) -> ETEGRecConfig:
    """As `without_alternation`, followed by the fine-tuning stage, to tell its gain from alternation's."""
    return config.replace(alternating=False)


def without_end_to_end(config: ETEGRecConfig) -> ETEGRecConfig:
    """The trained ETEGRec's final codes, and a new recommender trained on them like TIGER."""
    return config.replace(end_to_end=False)


ABLATIONS = {
    ablation.name: ablation
    for ablation in (
        Ablation("sia", "wo-sia", "w/o SIA", without_sia),
        Ablation("psa", "wo-psa", "w/o PSA", without_psa),
        Ablation("sia+psa", "wo-sia-psa", "w/o SIA&PSA", without_alignments),
        Ablation("at", "wo-at", "w/o AT", without_alternation, companions=("at+finetuning",)),
        Ablation("at+finetuning", "wo-at-finetuned", "w/o AT, fine-tuned", without_alternation_finetuned),
        Ablation("ete", "wo-ete", "w/o ETE", without_end_to_end),
    )
}
