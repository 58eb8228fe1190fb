"""Tiny Qwen2.5-VL and Gemma-3: how they are built, trained, saved and examined."""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from standin_data import PIXELS, VOCABULARY, Listings, answer, corpus, learn_merges
from torch import nn

from mmpc_analysis.completion.prompts import conversation, prompt_for

PATCH = 16  # Edge of a patch, pixels
CONTEXT = 512  # Longest input and output together, tokens
QWEN_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
GEMMA_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<start_of_turn>"
    "{{ 'model' if message['role'] == 'assistant' else message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<start_of_image>{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)


@dataclass(frozen=True)
class Size:
    """The shape of one size; both families use the same numbers."""

    text: tuple[int, int, int, int, int]  # Hidden, layers, heads, key-value heads, intermediate
    vision: tuple[int, int, int, int]  # Hidden, layers, heads, intermediate
    rate: float  # Peak learning rate


SIZES = {
    "s": Size((64, 2, 4, 2, 192), (64, 4, 4, 128), 2e-3),
    "m": Size((128, 3, 4, 2, 320), (112, 4, 4, 256), 2e-3),
    "l": Size((224, 4, 7, 7, 576), (176, 4, 4, 400), 1.5e-3),
}


@dataclass(frozen=True)
class Recipe:
    """What every size gets alike."""

    warm_epochs: int = 150  # Vision warm-up, passes over the training pictures
    epochs: int = 40  # Fine-tuning on answers, passes over the training listings
    warm_batch: int = 64
    batch: int = 32  # Pictures a step; half as many titles go with them
    corruption: float = 0.1  # Share of teacher-forced answer inputs replaced at random
    auxiliary: float = 0.5  # Weight of the warm-up losses during fine-tuning
    decay: float = 0.05  # Weight decay of matrices
    average: float = 0.998  # Decay of the running average of weights that is kept


def template_texts() -> list[str]:
    """The fixed strings of both tasks, for the vocabulary."""
    return [prompt_for("image_to_text", short=True).text, prompt_for("text_to_image", short=True).text]


def qwen_tokenizer(texts: list[str]):
    """Byte-level BPE with Qwen's special tokens."""
    from tokenizers import Regex, pre_tokenizers
    from transformers import Qwen2Tokenizer
    from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

    named = {"image_token": "<|image_pad|>", "video_token": "<|video_pad|>"}
    named |= {"vision_start_token": "<|vision_start|>", "vision_end_token": "<|vision_end|>"}
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *named.values()]
    split = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PRETOKENIZE_REGEX), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    vocab, merges = learn_merges([*texts, *["user\nassistant\n"] * 50], VOCABULARY, split, special=special)
    return Qwen2Tokenizer(
        vocab=vocab,
        merges=merges,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        padding_side="left",
        model_max_length=CONTEXT,
        extra_special_tokens=named | {"im_start_token": "<|im_start|>"},
    )


def gemma_tokenizer(texts: list[str]):
    """BPE over words with byte fallback and Gemma's special tokens."""
    from tokenizers import Regex, pre_tokenizers
    from transformers import GemmaTokenizer

    named = {
        "image_token": "<image_soft_token>",
        "boi_token": "<start_of_image>",
        "eoi_token": "<end_of_image>",
    }
    turns = ["<start_of_turn>", "<end_of_turn>"]
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", *turns, *named.values()]
    special += [f"<0x{byte:02X}>" for byte in range(256)]
    split = pre_tokenizers.Split(Regex(r"▁?[\p{L}\p{N}]+|▁?[^\p{L}\p{N}▁\n]+|\n+|▁"), behavior="isolated")
    spaced = [t.replace(" ", "▁") for t in [*texts, *["user\nmodel\n"] * 50]]
    vocab, merges = learn_merges(spaced, VOCABULARY, split, special=special, bytes_=False)
    return GemmaTokenizer(
        vocab=vocab,
        merges=merges,
        padding_side="left",
        model_max_length=CONTEXT,
        extra_special_tokens=named | {"start_token": turns[0], "end_token": turns[1]},
    )


def qwen_processor(tokenizer):
    """Qwen2.5-VL's processor without its video part, which needs torchvision."""
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    pixels = PIXELS * PIXELS
    images = Qwen2VLImageProcessorPil(
        size={"shortest_edge": pixels, "longest_edge": pixels},
        patch_size=PATCH,
        merge_size=2,
        temporal_patch_size=2,
    )
    return picture_processor()(image_processor=images, tokenizer=tokenizer, chat_template=QWEN_TEMPLATE)


def picture_processor() -> type:
    """The package's processor class for Qwen2.5-VL pictures, registered with the Auto classes."""
    from mmpc_analysis.completion.checkpoints import register_processors

    return register_processors()


def gemma_processor(tokenizer):
    """Gemma-3's processor at the stand-ins' picture size."""
    from transformers import Gemma3Processor
    from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil

    images = Gemma3ImageProcessorPil(
        size={"height": PIXELS, "width": PIXELS}, resample=3, do_convert_rgb=True
    )
    tokens = (PIXELS // PATCH) ** 2
    return Gemma3Processor(images, tokenizer, chat_template=GEMMA_TEMPLATE, image_seq_length=tokens)


def qwen_model(size: Size, tokenizer):
    """A Qwen2.5-VL of the given size with random weights."""
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    hidden, layers, heads, kv, inner = size.text
    vision, blocks, vision_heads, vision_inner = size.vision
    half = hidden // heads // 2
    ids = {name: getattr(tokenizer, f"{name}_id") for name in ("image_token", "video_token")}
    ids |= {name: getattr(tokenizer, f"{name}_id") for name in ("vision_start_token", "vision_end_token")}
    config = Qwen2_5_VLConfig(
        text_config=dict(
            vocab_size=len(tokenizer),
            hidden_size=hidden,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            num_key_value_heads=kv,
            intermediate_size=inner,
            max_position_embeddings=CONTEXT,
            rope_parameters={
                "rope_type": "default",
                "rope_theta": 1e4,
                "mrope_section": [half - 2 * (3 * half // 8), 3 * half // 8, 3 * half // 8],
            },
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        ),
        vision_config=dict(
            depth=blocks,
            hidden_size=vision,
            num_heads=vision_heads,
            intermediate_size=vision_inner,
            patch_size=PATCH,
            spatial_merge_size=2,
            temporal_patch_size=2,
            window_size=PIXELS,
            fullatt_block_indexes=list(range(blocks)),
            out_hidden_size=hidden,
        ),
        image_token_id=ids["image_token"],
        video_token_id=ids["video_token"],
        vision_start_token_id=ids["vision_start_token"],
        vision_end_token_id=ids["vision_end_token"],
        tie_word_embeddings=True,
    )
    return Qwen2_5_VLForConditionalGeneration(config)


def gemma_model(size: Size, tokenizer):
    """A Gemma-3 of the given size with random weights."""
    from transformers import Gemma3Config, Gemma3ForConditionalGeneration

    hidden, layers, heads, kv, inner = size.text
    vision, blocks, vision_heads, vision_inner = size.vision
    config = Gemma3Config(
        text_config=dict(
            vocab_size=len(tokenizer),
            hidden_size=hidden,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            num_key_value_heads=kv,
            head_dim=hidden // heads,
            query_pre_attn_scalar=hidden // heads,
            intermediate_size=inner,
            sliding_window=256,
            max_position_embeddings=CONTEXT,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        ),
        vision_config=dict(
            hidden_size=vision,
            num_hidden_layers=blocks,
            num_attention_heads=vision_heads,
            intermediate_size=vision_inner,
            image_size=PIXELS,
            patch_size=PATCH,
            vision_use_head=False,
        ),
        mm_tokens_per_image=(PIXELS // PATCH) ** 2,
        boi_token_index=tokenizer.boi_token_id,
        eoi_token_index=tokenizer.eoi_token_id,
        image_token_index=tokenizer.image_token_id,
        tie_word_embeddings=True,
        eos_token_id=[tokenizer.eos_token_id, tokenizer.end_token_id],
    )
    model = Gemma3ForConditionalGeneration(config)
    # transformers initialises this matrix to zero, which no gradient from a fresh tower would leave quickly.
    nn.init.normal_(model.model.multi_modal_projector.mm_input_projection_weight, std=vision**-0.5)
    return model


def build(family: str, size: str, train: Listings, seed: int):
    """An untrained model and its processor."""
    texts = corpus(train, template_texts())
    torch.manual_seed(seed)
    if family == "qwen":
        tokenizer = qwen_tokenizer(texts)
        model, processor = qwen_model(SIZES[size], tokenizer), qwen_processor(tokenizer)
        ends = [tokenizer.eos_token_id, tokenizer.pad_token_id]
    else:
        tokenizer = gemma_tokenizer(texts)
        model, processor = gemma_model(SIZES[size], tokenizer), gemma_processor(tokenizer)
        ends = [tokenizer.end_token_id, tokenizer.eos_token_id]
    settings = model.generation_config
    settings.eos_token_id, settings.pad_token_id, settings.do_sample = ends, tokenizer.pad_token_id, False
    settings.max_new_tokens = 64
    return model, processor


# ---- The training forward pass: the model's own modules, without the per-picture loops of its general path


class Reader(nn.Module):
    """A model with the two warm-up losses and a fast path for pictures of one size."""

    def __init__(self, model, processor, concepts: int, designers: int):
        super().__init__()
        self.model = model
        self.family = "qwen" if "qwen" in model.config.model_type else "gemma"
        images = processor.image_processor
        shape = (1, 3, 1, 1)
        self.mean = torch.tensor(images.image_mean).view(shape)
        self.std = torch.tensor(images.image_std).view(shape)
        self.heads = nn.ModuleList([nn.Linear(self.embedding.shape[1], n) for n in (concepts, designers)])

    @property
    def embedding(self) -> torch.Tensor:
        return self.model.get_input_embeddings().weight

    def picture_tokens(self, pictures: torch.Tensor) -> torch.Tensor:
        """(b, 3, px, px) in [0, 1] to (b, tokens, hidden)."""
        pixels = (pictures - self.mean) / self.std
        if self.family == "gemma":
            core = self.model.model
            return core.multi_modal_projector(core.vision_tower(pixels).last_hidden_state)
        return qwen_picture_tokens(self.model.model.visual, pixels)

    def recognise(self, tokens: torch.Tensor, marks: Marks, rows: torch.Tensor) -> torch.Tensor:
        """Loss of naming concept, designer and the title's words from the mean picture token."""
        pooled = F.layer_norm(tokens.mean(1), tokens.shape[-1:])
        concept, designer = (head(pooled) for head in self.heads)
        words = F.cross_entropy(pooled @ self.embedding.T, marks.bags[rows])
        style = F.cross_entropy(designer, marks.designers[rows], label_smoothing=0.1)
        return F.cross_entropy(concept, marks.concepts[rows], label_smoothing=0.1) + words + 0.5 * style

    def answer_logits(self, embeds: torch.Tensor, layout: Layout, wanted: torch.Tensor) -> torch.Tensor:
        """(k, vocabulary) logits at the k positions where `wanted` is True."""
        mask = dict.fromkeys(("full_attention", "sliding_attention"), layout.mask)
        core = self.model.model.language_model
        hidden = core(
            inputs_embeds=embeds, position_ids=layout.positions, attention_mask=mask, use_cache=False
        ).last_hidden_state
        return self.model.lm_head(hidden[wanted])


def qwen_picture_tokens(visual, pixels: torch.Tensor) -> torch.Tensor:
    """Qwen2.5-VL's vision tower on pictures of one size, all attended in one call a layer."""
    from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import apply_rotary_pos_emb_vision

    count, grid = len(pixels), PIXELS // PATCH
    patches = pixels.view(count, 3, grid // 2, 2, PATCH, grid // 2, 2, PATCH).permute(0, 2, 5, 3, 6, 1, 4, 7)
    # Both frames of a still picture are the same, so the frame axis of the kernel is summed.
    kernel = visual.patch_embed.proj.weight.sum(2).flatten(1)
    hidden = F.linear(patches.reshape(count, grid * grid, -1), kernel)
    rope = _qwen_rope(visual, hidden, grid)
    for block in visual.blocks:
        heads = block.attn.num_heads
        parts = block.attn.qkv(block.norm1(hidden)).view(count, grid * grid, 3, heads, -1)
        query, key, value = parts.unbind(2)
        query, key = apply_rotary_pos_emb_vision(query, key, *rope)
        mixed = F.scaled_dot_product_attention(*(x.transpose(1, 2) for x in (query, key, value)))
        hidden = hidden + block.attn.proj(mixed.transpose(1, 2).flatten(2))
        hidden = hidden + block.mlp(block.norm2(hidden))
    return visual.merger(hidden.reshape(-1, hidden.shape[-1])).view(count, grid * grid // 4, -1)


def _qwen_rope(visual, hidden, grid):
    from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import get_vision_position_ids

    positions = get_vision_position_ids(torch.tensor([[1, grid, grid]]), 2)
    return visual.rotary_pos_emb(hidden, positions)


# ---- Rows: prompt and answer as token ids, padded on the right for training


@dataclass(frozen=True)
class Layout:
    """What the positions of a padded batch look like; it depends on the task alone."""

    positions: torch.Tensor  # (1, length), or (3, 1, length) for Qwen's three axes
    mask: torch.Tensor | None  # (1, 1, length, length), True where attention is allowed; None is causal

    def cut(self, length: int) -> Layout:
        mask = None if self.mask is None else self.mask[..., :length, :length]
        return Layout(self.positions[..., :length], mask)


@dataclass(frozen=True)
class Rows:
    """All training rows of one task."""

    ids: torch.Tensor  # (n, length) prompt and answer, padded
    labels: torch.Tensor  # (n, length) the next token where it belongs to the answer, else -100
    lengths: torch.Tensor  # (n,) tokens in each row
    slots: tuple[int, int]  # Where the picture's tokens stand, (0, 0) for none
    layout: Layout


def make_rows(model, processor, listings: Listings, task: str) -> Rows:
    """Prompt, answer and end of turn of every listing."""
    tokenizer = processor.tokenizer
    prompt = prompt_for(task, short=True)
    end = tokenizer.convert_tokens_to_ids(
        "<|im_end|>" if hasattr(tokenizer, "im_start_token") else "<end_of_turn>"
    )
    shown = task == "image_to_text"
    answers = listings.titles if shown else listings.prompts
    if shown:
        talk = conversation(prompt, image=True)
        talk[0]["content"][0]["image"] = _blank()
        inputs = processor.apply_chat_template(
            talk, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
        )
        starts = [inputs["input_ids"][0].tolist()] * len(listings)
    else:
        inputs = None
        talks = [conversation(prompt, title=title) for title in listings.titles]
        starts = processor.apply_chat_template(
            talks, add_generation_prompt=True, tokenize=True, return_dict=True
        )["input_ids"]
    ends = tokenizer([answer(prompt.answer_key, text) for text in answers], add_special_tokens=False)[
        "input_ids"
    ]
    return _pad(starts, [[*e, end] for e in ends], tokenizer.pad_token_id, model, inputs)


def _blank():
    from PIL import Image

    return Image.new("RGB", (PIXELS, PIXELS), "white")


def _pad(starts, ends, pad, model, inputs) -> Rows:
    lengths = [len(s) + len(e) for s, e in zip(starts, ends, strict=True)]
    ids = torch.full((len(starts), max(lengths)), pad)
    labels = torch.full_like(ids, -100)
    for i, (start, end) in enumerate(zip(starts, ends, strict=True)):
        ids[i, : lengths[i]] = torch.tensor(start + end)
        labels[i, len(start) - 1 : lengths[i] - 1] = torch.tensor(end)
    slots, layout = _layout(model, inputs, ids.shape[1])
    return Rows(ids, labels, torch.tensor(lengths), slots, layout)


def _layout(model, inputs, length) -> tuple[tuple[int, int], Layout]:
    positions, mask, slots = torch.arange(length)[None], None, (0, 0)
    if inputs is None:
        return slots, Layout(positions, mask)
    where = (inputs["input_ids"][0] == model.config.image_token_id).nonzero().flatten()
    slots = (int(where[0]), int(where[-1]) + 1)
    if "image_grid_thw" in inputs:
        start = inputs["input_ids"].shape[1]
        known = model.model.get_rope_index(
            **{k: inputs[k] for k in ("input_ids", "mm_token_type_ids", "image_grid_thw")}
        )
        tail = known[0].max() + 1 + torch.arange(length - start)
        positions = torch.cat([known[0], tail.expand(3, 1, -1)], dim=-1)
    else:
        mask = torch.ones(length, length, dtype=torch.bool).tril()
        mask[slots[0] : slots[1], slots[0] : slots[1]] = True
        mask = mask[None, None]
    return slots, Layout(positions, mask)


@dataclass(frozen=True)
class Marks:
    """What the warm-up losses ask about each training picture."""

    pictures: torch.Tensor  # (n, 3, px, px) uint8
    concepts: torch.Tensor  # (n,) index of the concept
    designers: torch.Tensor  # (n,) index of the designer
    bags: torch.Tensor  # (n, vocabulary) the title's tokens as a distribution


def make_marks(processor, listings: Listings, width: int) -> Marks:
    """The warm-up's targets."""
    bags = torch.zeros(len(listings), width)
    for i, title in enumerate(listings.titles):
        for token in set(processor.tokenizer(" " + title, add_special_tokens=False)["input_ids"]):
            bags[i, token] = 1.0
    arrays = (listings.pictures, listings.concepts, listings.designers)
    return Marks(*map(torch.from_numpy, arrays), bags / bags.sum(1, keepdim=True))


# ---- Training


def augment(pictures: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    """Small shifts, turns, zooms and mild colour changes of uint8 pictures; white stays outside."""
    count = len(pictures)

    def draw(low: float, high: float, *shape: int) -> torch.Tensor:
        return low + (high - low) * torch.rand(count, *shape, generator=rng)

    angle, zoom, stretch = draw(-0.2, 0.2), draw(0.85, 1.2), draw(0.92, 1.08)
    cos, sin = torch.cos(angle) * zoom, torch.sin(angle) * zoom
    rows = [
        torch.stack([cos * stretch, -sin, draw(-0.12, 0.12)], 1),
        torch.stack([sin, cos, draw(-0.12, 0.12)], 1),
    ]
    grid = F.affine_grid(torch.stack(rows, 1), list(pictures.shape), align_corners=False)
    ink = F.grid_sample(1 - pictures.float() / 255, grid, align_corners=False)
    ink = ink * draw(0.8, 1.2, 1, 1, 1) * draw(0.9, 1.1, 3, 1, 1)
    grey = ink.mean(1, keepdim=True)
    return (1 - (grey + (ink - grey) * draw(0.6, 1.3, 1, 1, 1))).clamp(0, 1)


def optimiser(parameters, rate: float, decay: float):
    """AdamW that decays matrices only."""
    parameters = list(parameters)
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98), fused=True)


def cosine(step: int, steps: int, warm: int = 50) -> float:
    """Share of the peak learning rate: linear rise, then a half cosine to a twentieth."""
    if step < warm:
        return (step + 1) / warm
    return 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def batches(count: int, size: int, steps: int, rng: torch.Generator):
    """Batches of indices that go through all items before any comes again."""
    queue = torch.empty(0, dtype=torch.long)
    for _ in range(steps):
        while len(queue) < size:
            queue = torch.cat([queue, torch.randperm(count, generator=rng)])
        yield queue[:size]
        queue = queue[size:]


def warm_up(reader: Reader, marks: Marks, recipe: Recipe, rate: float, rng, log) -> int:
    """Teach the vision tower concepts and the title's words before the decoder learns."""
    core = reader.model.model
    tower = (
        core.visual
        if reader.family == "qwen"
        else nn.ModuleList([core.vision_tower, core.multi_modal_projector])
    )
    weights = [*tower.parameters(), *reader.heads.parameters(), reader.embedding]
    optim = optimiser(weights, rate, recipe.decay)
    count = len(marks.pictures)
    size = min(recipe.warm_batch, count)
    steps = max(1, recipe.warm_epochs * count // size)
    for step, rows in enumerate(batches(count, size, steps, rng)):
        loss = reader.recognise(reader.picture_tokens(augment(marks.pictures[rows], rng)), marks, rows)
        _update(optim, weights, loss, rate * cosine(step, steps))
        if step % max(1, steps // 10) == 0:
            log(f"warm-up {step}/{steps} loss {loss.item():.3f}")
    return steps


def _update(optim, weights, loss, rate) -> None:
    for group in optim.param_groups:
        group["lr"] = rate
    optim.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(weights, 1.0)
    optim.step()


def fine_tune(
    reader: Reader, processor, train: Listings, marks: Marks, recipe: Recipe, rate: float, rng, log
) -> int:
    """Teach both tasks; the running average of the weights is what stays."""
    weights = list(reader.parameters())
    optim = optimiser(weights, rate, recipe.decay)
    shown, told = (make_rows(reader.model, processor, train, t) for t in ("image_to_text", "text_to_image"))
    size = min(recipe.batch, len(train))
    steps = max(1, recipe.epochs * len(train) // size)
    average = [w.detach().clone() for w in weights]
    pairs = zip(
        batches(len(train), size, steps, rng), batches(len(train), max(1, size // 2), steps, rng), strict=True
    )
    for step, (rows, others) in enumerate(pairs):
        tokens = reader.picture_tokens(augment(marks.pictures[rows], rng))
        aside = reader.recognise(tokens, marks, rows)
        title = task_loss(reader, shown, rows, recipe, rng, tokens)
        prompt = task_loss(reader, told, others, recipe, rng)
        _update(optim, weights, title + prompt + recipe.auxiliary * aside, rate * cosine(step, steps))
        keep = min(recipe.average, (1 + step) / (10 + step))
        torch._foreach_lerp_(average, [w.detach() for w in weights], 1 - keep)
        if step % max(1, steps // 20) == 0:
            log(
                f"answers {step}/{steps} title {title.item():.3f} prompt {prompt.item():.3f} aside {aside.item():.3f}"
            )
    with torch.no_grad():
        for weight, mean in zip(weights, average, strict=True):
            weight.copy_(mean)
    return steps


def task_loss(reader: Reader, task: Rows, rows, recipe: Recipe, rng, tokens=None) -> torch.Tensor:
    """The answer's loss for some rows, a share of the answer's inputs corrupted."""
    length = int(task.lengths[rows].max())
    ids, labels = task.ids[rows, :length], task.labels[rows, :length]
    inside = F.pad(labels[:, :-1] >= 0, (1, 0))
    wrong = inside & (torch.rand(ids.shape, generator=rng) < recipe.corruption)
    ids = torch.where(wrong, torch.randint(10, len(reader.embedding), ids.shape, generator=rng), ids)
    logits = reader.answer_logits(embed(reader, task, ids, tokens), task.layout.cut(length), labels >= 0)
    return F.cross_entropy(logits, labels[labels >= 0])


def embed(reader: Reader, task: Rows, ids: torch.Tensor, tokens: torch.Tensor | None) -> torch.Tensor:
    """Token embeddings with the picture's tokens in their place."""
    embeds = reader.model.get_input_embeddings()(ids)
    if tokens is None:
        return embeds
    low, high = task.slots
    return torch.cat([embeds[:, :low], tokens, embeds[:, high:]], dim=1)


@torch.no_grad()
def largest_gap(reader: Reader, processor, train: Listings) -> float:
    """How far the training pass is from the model's own: largest difference of a logit."""
    gaps = []
    for task in ("image_to_text", "text_to_image"):
        rows = make_rows(reader.model, processor, train, task)
        length = int(rows.lengths[0])
        ids = rows.ids[:1, :length]
        tokens, extra = None, {}
        if rows.slots != (0, 0):
            picture = torch.from_numpy(train.pictures[:1])
            tokens = reader.picture_tokens(picture.float() / 255)
            extra = processor.image_processor(
                [picture[0]], return_tensors="pt", input_data_format="channels_first"
            )
            kind = "mm_token_type_ids" if reader.family == "qwen" else "token_type_ids"
            extra = {k: v for k, v in extra.items() if k != "num_crops"}
            extra[kind] = (ids == reader.model.config.image_token_id).long()
        everywhere = torch.ones_like(ids, dtype=torch.bool)
        ours = reader.answer_logits(embed(reader, rows, ids, tokens), rows.layout.cut(length), everywhere)
        theirs = reader.model(input_ids=ids, attention_mask=torch.ones_like(ids), **extra).logits[0]
        gaps.append(float((ours - theirs).abs().max()))
    return max(gaps)


def train_mllm(family: str, size: str, train: Listings, recipe: Recipe, seed: int, log) -> tuple:
    """Build, warm up and fine-tune one stand-in; returns model, processor and what it cost."""
    torch.manual_seed(seed)
    model, processor = build(family, size, train, seed)
    reader = Reader(model, processor, train.concepts.max() + 1, train.designers.max() + 1)
    gap = largest_gap(reader, processor, train)
    if gap > 1e-3:
        raise RuntimeError(
            f"the training pass must equal the model's own within 1e-3, it differs by {gap:.2g}"
        )
    rng = torch.Generator().manual_seed(seed)
    marks = make_marks(processor, train, len(reader.embedding))
    start, wall = time.process_time(), time.time()
    model.train()
    warm = warm_up(reader, marks, recipe, SIZES[size].rate, rng, log)
    steps = fine_tune(reader, processor, train, marks, recipe, SIZES[size].rate, rng, log)
    model.eval()
    cost = {"warm_steps": warm, "steps": steps, "largest_gap": gap}
    cost |= {
        "cpu_seconds": round(time.process_time() - start, 1),
        "wall_seconds": round(time.time() - wall, 1),
    }
    return model, processor, cost


def save_mllm(model, processor, folder: Path) -> None:
    """Half-precision weights with everything the Auto classes look for."""
    folder.mkdir(parents=True, exist_ok=True)
    model.to(torch.float16).save_pretrained(folder)
    model.to(torch.float32)
    processor.save_pretrained(folder)
    if "qwen" in model.config.model_type:
        unname(folder)


def unname(folder: Path) -> None:
    """Take our processor class out of a Qwen folder, so that the model's type alone decides.

    A class that nobody registered would make AutoProcessor return the tokenizer without a word. The video part is
    described too: where torchvision is installed, the original processor class wants it.
    """
    for name in ("processor_config.json", "tokenizer_config.json"):
        settings = json.loads((folder / name).read_text("utf-8"))
        settings.pop("processor_class", None)
        if name == "processor_config.json":
            same = {k: v for k, v in settings["image_processor"].items() if k != "image_processor_type"}
            settings["video_processor"] = {"video_processor_type": "Qwen2VLVideoProcessor"} | same
        (folder / name).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def count_parameters(model) -> dict[str, int]:
    """All parameters, tied ones once, and the share of the vision part."""
    core = model.model
    vision = (
        core.visual
        if hasattr(core, "visual")
        else nn.ModuleList([core.vision_tower, core.multi_modal_projector])
    )
    total, seen = sum(p.numel() for p in model.parameters()), sum(p.numel() for p in vision.parameters())
    return {"parameters": total, "vision_parameters": seen, "text_parameters": total - seen}


# ---- Examination, through the same Auto classes that a user's code goes through


@torch.inference_mode()
def ask(
    folder: Path, talks: list[list[dict]], pictures: list | None, batch: int = 64, new_tokens: int = 64
) -> list[str]:
    """Greedy answers of a saved stand-in; a conversation with no picture is a blind question."""
    from transformers import AutoModelForImageTextToText, AutoProcessor

    from mmpc_analysis.completion.checkpoints import begin_once

    picture_processor()
    processor = AutoProcessor.from_pretrained(folder)
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
    texts = [
        processor.apply_chat_template(talk, add_generation_prompt=True, tokenize=False) for talk in talks
    ]
    texts, adds = begin_once(texts, processor.tokenizer)
    answers = []
    for i in range(0, len(texts), batch):
        images = None if pictures is None else [[p] for p in pictures[i : i + batch]]
        inputs = processor(
            text=texts[i : i + batch],
            images=images,
            padding=True,
            return_tensors="pt",
            add_special_tokens=adds,
        )
        ids = model.generate(**inputs, max_new_tokens=new_tokens, do_sample=False)
        answers += processor.batch_decode(ids[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    return answers


def to_images(pictures: np.ndarray) -> list:
    """Channels-first arrays as Pillow images."""
    from PIL import Image

    return [Image.fromarray(p.transpose(1, 2, 0)) for p in pictures]
