"""Models that judges load, as they lie on disk: the real classes of transformers, tiny, with random weights."""

from __future__ import annotations

from pathlib import Path

import torch

WORDS = [
    "<pad>",
    "<unk>",
    "<s>",
    "</s>",
    "the",
    "block",
    "is",
    "on",
    "green",
    "square",
    "a",
    "robot",
    "arm",
    "at",
    "table",
    "moves",
    "yes",
    "Yes",
    "no",
    "No",
    *"012345",
    ":",
    ".",
    ",",
    "?",
    "user",
    "assistant",
    "<image>",
    "<fake_token_around_image>",
    "<global-img>",
    *(f"<row_{i}_col_{j}>" for i in (1, 2) for j in (1, 2)),
]
SPECIAL = WORDS[WORDS.index("<image>") :]


def tokenizer(longest: int, marks: bool = True):
    """Words of WORDS between <s> and </s> (with marks); unknown ones are <unk>."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    if marks:
        words.post_processor = processors.TemplateProcessing(
            single="<s> $A </s>", special_tokens=[("<s>", 2), ("</s>", 3)]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=words,
        pad_token="<pad>",
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        model_max_length=longest,
        padding_side="left" if not marks else "right",
        extra_special_tokens=SPECIAL,
    )


def write_clip(folder: Path) -> Path:
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor

    torch.manual_seed(0)
    tower = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    CLIPModel(
        CLIPConfig(
            text_config={
                **tower,
                "vocab_size": len(WORDS),
                "max_position_embeddings": 16,
                "eos_token_id": 3,
                "bos_token_id": 2,
                "pad_token_id": 0,
            },
            vision_config={**tower, "image_size": 32, "patch_size": 8},
            projection_dim=16,
        )
    ).save_pretrained(folder)
    CLIPProcessor(CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=32), tokenizer(16)).save_pretrained(folder)
    return folder


def write_siglip(folder: Path) -> Path:
    from transformers import SiglipConfig, SiglipImageProcessor, SiglipModel, SiglipProcessor

    torch.manual_seed(0)
    tower = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    SiglipModel(
        SiglipConfig(
            text_config={**tower, "vocab_size": len(WORDS), "max_position_embeddings": 16, "projection_size": 32},
            vision_config={**tower, "image_size": 32, "patch_size": 8},
        )
    ).save_pretrained(folder)
    SiglipProcessor(SiglipImageProcessor(size={"height": 32, "width": 32}), tokenizer(16)).save_pretrained(folder)
    return folder


TEMPLATE = (
    "{% for message in messages %}{{ message['role'] }} : {% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}IMAGE{% else %}{{ part['text'] }}{% endif %}{% endfor %}"
    "{% endfor %}{% if add_generation_prompt %} assistant : {% endif %}"
)
LANGUAGE = {
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "vocab_size": len(WORDS),
    "bos_token_id": 2,
    "eos_token_id": 3,
    "pad_token_id": 0,
}


def write_llava(folder: Path) -> Path:
    """CLIP's eyes on a Llama."""
    from transformers import (
        CLIPImageProcessor,
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
    )

    torch.manual_seed(0)
    LlavaForConditionalGeneration(
        LlavaConfig(
            vision_config=CLIPVisionConfig(
                hidden_size=32,
                intermediate_size=32,
                num_hidden_layers=2,
                num_attention_heads=2,
                image_size=32,
                patch_size=8,
            ),
            text_config=LlamaConfig(**LANGUAGE),
            image_token_index=WORDS.index("<image>"),
        )
    ).save_pretrained(folder)
    LlavaProcessor(
        CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=32),
        tokenizer(512, marks=False),
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=TEMPLATE.replace("IMAGE", "<image>"),
    ).save_pretrained(folder)
    return folder


def write_idefics(folder: Path) -> Path:
    """Idefics3, the class of the first SmolVLM, which cuts a picture into tiles."""
    from transformers import (
        Idefics3Config,
        Idefics3ForConditionalGeneration,
        Idefics3ImageProcessor,
        Idefics3Processor,
        LlamaConfig,
    )

    torch.manual_seed(0)
    Idefics3ForConditionalGeneration(
        Idefics3Config(
            text_config=LlamaConfig(**LANGUAGE),
            scale_factor=2,
            image_token_id=WORDS.index("<image>"),
            pad_token_id=0,
            vision_config={
                "hidden_size": 32,
                "intermediate_size": 32,
                "num_hidden_layers": 2,
                "num_attention_heads": 2,
                "image_size": 32,
                "patch_size": 8,
            },
        )
    ).save_pretrained(folder)
    Idefics3Processor(
        Idefics3ImageProcessor(size={"longest_edge": 64}, max_image_size={"longest_edge": 32}),
        tokenizer(2048, marks=False),
        image_seq_len=4,
        chat_template=TEMPLATE.replace("IMAGE", "<image>"),
    ).save_pretrained(folder)
    return folder
