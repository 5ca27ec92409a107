"""An independent implementation of the generator: transformers' T5 with the weights of ours.

Tests take it as their oracle and the benchmark as its peer. transformers comes with the extra `bench`, so nothing else
imports this module.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import T5Config as TwinConfig
from transformers import T5ForConditionalGeneration

from harness.nn.code_seq2seq import CodeSeq2Seq


def transformers_twin(model: CodeSeq2Seq) -> Any:
    """transformers' T5 over one vocabulary (level after level, then BOS), logits not scaled, in eval mode."""
    config = model.config
    # Typed loosely: transformers' own annotations leave out what its configs and modules have.
    make_config: Any = TwinConfig
    twin: Any = T5ForConditionalGeneration(
        make_config(
            vocab_size=model.bos + 1,
            d_model=config.d_model,
            d_kv=config.d_head,
            d_ff=config.d_ff,
            num_heads=config.num_heads,
            num_layers=config.encoder_layers,
            num_decoder_layers=config.decoder_layers,
            relative_attention_num_buckets=config.num_buckets,
            relative_attention_max_distance=config.max_distance,
            dropout_rate=config.dropout,
            feed_forward_proj="relu",
            tie_word_embeddings=False,
            decoder_start_token_id=model.bos,
            pad_token_id=model.bos,
            eos_token_id=None,
        )
    )
    with torch.no_grad():
        for table in (twin.shared, twin.encoder.embed_tokens, twin.decoder.embed_tokens, twin.lm_head):
            table.weight.copy_(model.tokens.weight)
        for stack, twin_stack in ((model.encoder, twin.encoder), (model.decoder, twin.decoder)):
            first = twin_stack.block[0].layer[0].SelfAttention
            first.relative_attention_bias.weight.copy_(stack.bias.weight)
            twin_stack.final_layer_norm.weight.copy_(stack.norm.weight)
            for layer, block in zip(stack.layers, twin_stack.block, strict=True):
                copy_layer(layer, block.layer)
    return twin.eval()


def copy_layer(layer: Any, twin_parts: Any) -> None:
    """Write one layer's weights into the parts of a transformers block."""
    attention, twin_attention = layer.attention, twin_parts[0].SelfAttention
    copy_maps(attention.qkv.weight, [twin_attention.q, twin_attention.k, twin_attention.v])
    copy_maps(attention.out.weight, [twin_attention.o])
    twin_parts[0].layer_norm.weight.copy_(attention.norm.weight)
    if len(twin_parts) == 3:
        cross, twin_cross = layer.cross_attention, twin_parts[1].EncDecAttention
        copy_maps(cross.q.weight, [twin_cross.q])
        copy_maps(cross.kv.weight, [twin_cross.k, twin_cross.v])
        copy_maps(cross.out.weight, [twin_cross.o])
        twin_parts[1].layer_norm.weight.copy_(cross.norm.weight)
    feed_forward, twin_forward = layer.feed_forward, twin_parts[-1].DenseReluDense
    copy_maps(feed_forward.wi.weight, [twin_forward.wi])
    copy_maps(feed_forward.wo.weight, [twin_forward.wo])
    twin_parts[-1].layer_norm.weight.copy_(feed_forward.norm.weight)


def copy_maps(joint: Tensor, maps: list[nn.Linear]) -> None:
    """Write the row blocks of a joint projection into single ones."""
    for block, linear in zip(joint.chunk(len(maps)), maps, strict=True):
        linear.weight.copy_(block)
