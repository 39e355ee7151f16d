"""The parts of the demo model: exact Wan classes, small sizes."""

from random import Random
from typing import Any, Final

import torch
from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanTransformer3DModel
from tokenizers import Tokenizer, normalizers, pre_tokenizers, processors
from tokenizers.models import WordLevel
from torch import Tensor
from transformers import PreTrainedTokenizerFast, UMT5Config, UMT5EncoderModel

from ops.demo_model.captions import VARIANTS, captions, vocabulary
from ops.demo_model.world import combinations

FLOW_SHIFT: Final = 3.0

TEXT_SLOTS: Final = 24
"""Tokens a caption may have in training; inference pads to 512."""

PAD, END, UNKNOWN = 0, 1, 2
"""Ids of the special tokens, as in UMT5."""


def new_vae(**changes: Any) -> AutoencoderKLWan:
    """An untrained VAE, 2.6 M parameters: 4x time, 8x8 space, 16 channels."""
    return AutoencoderKLWan(
        **{
            "base_dim": 16,
            "z_dim": 16,
            "dim_mult": [1, 2, 4, 4],
            "num_res_blocks": 1,
            "temperal_downsample": [False, True, True],
            "latents_mean": [0.0] * 16,
            "latents_std": [1.0] * 16,
            **changes,
        }
    )


def new_transformer(**changes: Any) -> WanTransformer3DModel:
    """An untrained denoiser, 5.0 M parameters."""
    return WanTransformer3DModel(
        **{
            "patch_size": (1, 2, 2),
            "num_attention_heads": 4,
            "attention_head_dim": 48,
            "in_channels": 16,
            "out_channels": 16,
            "text_dim": 128,
            "freq_dim": 256,
            "ffn_dim": 704,
            "num_layers": 8,
            **changes,
        }
    )


def new_text_encoder() -> UMT5EncoderModel:
    """An untrained text encoder, 0.3 M parameters."""
    config = UMT5Config(
        vocab_size=len(vocabulary()) + 3,
        d_model=128,
        d_kv=32,
        d_ff=256,
        num_layers=2,
        num_heads=4,
        dropout_rate=0.0,
        feed_forward_proj="gated-gelu",
        pad_token_id=PAD,
        eos_token_id=END,
        decoder_start_token_id=PAD,
    )
    return UMT5EncoderModel(config)


def new_tokenizer() -> PreTrainedTokenizerFast:
    """One token a word; any word outside the vocabulary becomes <unk>."""
    ids = {"<pad>": PAD, "</s>": END, "<unk>": UNKNOWN}
    for word in vocabulary():
        ids[word] = len(ids)
    words = Tokenizer(WordLevel(ids, unk_token="<unk>"))
    words.normalizer = normalizers.Lowercase()
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", END)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=words,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        model_max_length=512,
    )


def new_scheduler() -> UniPCMultistepScheduler:
    """Wan's scheduler: UniPC on a flow, the noise levels shifted by 3."""
    return UniPCMultistepScheduler(
        num_train_timesteps=1000,
        prediction_type="flow_prediction",
        use_flow_sigmas=True,
        flow_shift=FLOW_SHIFT,
    )


def caption_table(seed: int, device: torch.device) -> Tensor:
    """Token ids int64 [672, VARIANTS, TEXT_SLOTS] of each combination's captions, padded by 0."""
    rng = Random(seed)
    tokenizer = new_tokenizer()
    texts = [text for combination in combinations() for text in captions(combination, rng)]
    ids = tokenizer(
        texts, padding="max_length", max_length=TEXT_SLOTS, truncation=True, return_tensors="pt"
    ).input_ids
    return torch.as_tensor(ids, device=device).view(-1, VARIANTS, TEXT_SLOTS)
