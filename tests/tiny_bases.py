"""Pretrained video pipelines as they lie on disk, of the real classes, tiny, with random weights."""

from __future__ import annotations

import json
from pathlib import Path

import torch


def write_svd(folder: Path) -> Path:
    """A Stable Video Diffusion pipeline of 0.1 M parameters, without what a world does not read."""
    from diffusers import AutoencoderKLTemporalDecoder, UNetSpatioTemporalConditionModel

    torch.manual_seed(0)
    UNetSpatioTemporalConditionModel(
        down_block_types=("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
        up_block_types=("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"), block_out_channels=(32, 32),
        addition_time_embed_dim=8, projection_class_embeddings_input_dim=24, layers_per_block=1,
        cross_attention_dim=8, num_attention_heads=(2, 2)).save_pretrained(folder / "unet")
    AutoencoderKLTemporalDecoder(
        down_block_types=("DownEncoderBlock2D",) * 3, block_out_channels=(32, 32, 32), layers_per_block=1,
        latent_channels=4).save_pretrained(folder / "vae")
    return write_index(folder, {"_class_name": "StableVideoDiffusionPipeline"})


def write_wan(folder: Path) -> Path:
    """A Wan 2.2 TI2V pipeline with its text encoder and a tokenizer of a few words."""
    from diffusers import AutoencoderKLWan, WanTransformer3DModel
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, UMT5Config, UMT5EncoderModel

    torch.manual_seed(0)
    WanTransformer3DModel(
        num_attention_heads=2, attention_head_dim=12, in_channels=8, out_channels=8, text_dim=16, freq_dim=16,
        ffn_dim=32, num_layers=2, rope_max_seq_len=32).save_pretrained(folder / "transformer")
    AutoencoderKLWan(base_dim=8, z_dim=8, dim_mult=[1, 1, 1, 1], num_res_blocks=1, latents_mean=[0.1] * 8,
                     latents_std=[2.0] * 8).save_pretrained(folder / "vae")
    UMT5EncoderModel(UMT5Config(vocab_size=16, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
                     ).save_pretrained(folder / "text_encoder")
    words = Tokenizer(models.WordLevel({"<pad>": 0, "<unk>": 1, "the": 2, "ball": 3, "moves": 4}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", unk_token="<unk>"
                            ).save_pretrained(folder / "tokenizer")
    return write_index(folder, {"_class_name": "WanPipeline", "expand_timesteps": True})


def write_index(folder: Path, index: dict) -> Path:
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder
