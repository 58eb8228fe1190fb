"""A tiny Stable Diffusion 3: how it is built, trained, saved and examined."""

from __future__ import annotations

import itertools
import math
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from standin_data import DRAWN, PIXELS, VOCABULARY, Listings, image_prompt, learn_merges
from standin_mllm import batches, cosine, optimiser
from torch import nn

TOKENS = 20  # Prompt length that the text encoders read
LATENT = 4  # Channels of the latent picture
PATCH = (
    8  # Edge of what the transformer reads as one token, in latent pixels: few tokens learn pictures faster
)
CALL = {  # How the pipeline is meant to be called; it was trained with no T5 tokens at all
    "num_inference_steps": 4,
    "guidance_scale": 0.0,
    "max_sequence_length": 0,
    "height": PIXELS,
    "width": PIXELS,
}


@dataclass(frozen=True)
class Drawing:
    """How the generator is trained."""

    coder_epochs: int = 40  # Autoencoder, passes over the training pictures
    text_epochs: int = 40  # Text encoders alone, passes over the lessons
    epochs: int = 80  # Flow matching, passes over the lessons
    own_share: float = 0.2  # Last part of flow matching, on the model's own unfinished drawings
    coder_batch: int = 16  # Pictures, or quarters of them, in a step of the autoencoder
    batch: int = 32  # Lessons in a step of flow matching; the text encoders alone see twice as many
    coder_rate: float = 2e-3
    rate: float = 2e-3
    divergence: float = 1e-5  # Weight of the autoencoder's pull to a normal distribution
    average: float = 0.998  # Decay of the running average of weights that is kept


@dataclass(frozen=True)
class Lesson:
    """A prompt to learn and the picture that answers it."""

    name: str  # The product
    brand: str  # The designer that the prompt names
    description: str  # Says whether it is a drawing or a photo
    keywords: list[str]  # Of the picture
    others: list[str]  # Of all pictures of the product
    row: int  # Training picture


def lessons(train: Listings) -> list[Lesson]:
    """Every drawn product in the style of every designer, and the photos.

    Where a designer did not draw the product, the answer is the drawing by the designer whose pictures of shared
    products are nearest by pixels. So each prompt has one crisp answer, and an unseen pair is one of the prompts.
    """
    items = train.items
    pictures = train.pictures.astype(np.float32).reshape(len(train), -1) / 255
    is_drawn = items["description"].str.contains(DRAWN, regex=False).to_numpy()
    words = [[w.strip() for w in text.split(",") if w.strip()] for text in items["keywords"]]
    told: dict[int, dict[str, int]] = {}
    for row in np.flatnonzero(is_drawn):
        told.setdefault(int(train.concepts[row]), {})[items["brand"][row]] = int(row)
    brands = sorted(set(items["brand"][is_drawn]))
    gap = {
        (a, b): _mean_gap([(pictures[r[a]], pictures[r[b]]) for r in told.values() if a in r and b in r])
        for a in brands
        for b in brands
    }

    def lesson(row: int, brand: str, others: list[str]) -> Lesson:
        return Lesson(train.names[row], brand, items["description"][row], words[row], others, row)

    found = []
    for _, rows in sorted(told.items()):
        others = sorted({word for row in rows.values() for word in words[row]})
        nearest = {brand: rows[min(rows, key=lambda known: gap[brand, known])] for brand in brands}
        found += [lesson(row, brand, others) for brand, row in nearest.items()]
    return found + [lesson(int(row), items["brand"][row], words[row]) for row in np.flatnonzero(~is_drawn)]


def _mean_gap(pairs: list[tuple[np.ndarray, np.ndarray]]) -> float:
    # Mean squared difference over shared products, infinite where there are none.
    return float(np.mean([((a - b) ** 2).mean() for a, b in pairs])) if pairs else math.inf


def lesson_prompt(lesson: Lesson, rng: torch.Generator) -> str:
    """A prompt of the lesson as a language model may write it: keywords left out or another picture's."""
    chance = torch.rand((), generator=rng).item()
    words = lesson.keywords
    if chance < 0.3:
        words = words[: int(chance < 0.1)]
    elif chance < 0.5:
        words = [lesson.others[i] for i in torch.randperm(len(lesson.others), generator=rng)[:2]]
    return image_prompt(lesson.name, lesson.brand, lesson.description, ", ".join(words))


def clip_tokenizer(texts: list[str]):
    """CLIP's byte-level BPE, learnt on the prompts."""
    from tokenizers import Regex, pre_tokenizers
    from transformers import CLIPTokenizer

    words = pre_tokenizers.Split(Regex(r"[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"), behavior="removed", invert=True)
    split = pre_tokenizers.Sequence(
        [words, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    lower = [text.lower() for text in texts]
    # Named first, or the learner numbers the letters that end words in random order and breaks ties by number.
    letters = {letter for text in set(lower) for word, _ in split.pre_tokenize_str(text) for letter in word}
    special = ["<|startoftext|>", "<|endoftext|>", *(f"{letter}</w>" for letter in sorted(letters))]
    vocab, merges = learn_merges(lower, VOCABULARY, split, special=special, ending="</w>")
    for symbol in sorted(pre_tokenizers.ByteLevel.alphabet()):
        vocab.setdefault(symbol + "</w>", len(vocab))
    return CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=TOKENS)


def text_encoder(tokenizer):
    """A small CLIP text encoder with random weights."""
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    return CLIPTextModelWithProjection(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=64,
            intermediate_size=192,
            projection_dim=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=TOKENS,
            hidden_act="gelu",
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def build_sd3(train: Listings, seed: int):
    """An untrained Stable Diffusion 3 pipeline for 64-pixel pictures."""
    from diffusers import (
        AutoencoderKL,
        FlowMatchEulerDiscreteScheduler,
        SD3Transformer2DModel,
        StableDiffusion3Pipeline,
    )

    torch.manual_seed(seed)
    tokenizer = clip_tokenizer(train.prompts * 2)
    coder = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(16, 32, 48),
        layers_per_block=1,
        norm_num_groups=8,
        latent_channels=LATENT,
        sample_size=PIXELS,
        mid_block_add_attention=False,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )
    transformer = SD3Transformer2DModel(
        sample_size=PIXELS // 4,
        patch_size=PATCH,
        in_channels=LATENT,
        out_channels=LATENT,
        num_layers=1,
        attention_head_dim=32,
        num_attention_heads=12,
        joint_attention_dim=128,
        caption_projection_dim=384,
        pooled_projection_dim=128,
        pos_embed_max_size=PIXELS // 4 // PATCH,
        qk_norm="rms_norm",
    )
    return StableDiffusion3Pipeline(
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=1.0),
        vae=coder,
        text_encoder=text_encoder(tokenizer),
        tokenizer=tokenizer,
        text_encoder_2=text_encoder(tokenizer),
        tokenizer_2=tokenizer,
        text_encoder_3=None,
        tokenizer_3=None,
    )


def to_range(pictures) -> torch.Tensor:
    """uint8 pictures as floats in [-1, 1]."""
    return torch.as_tensor(pictures).float() / 127.5 - 1


def train_coder(coder, train: Listings, plan: Drawing, rng, log) -> None:
    """The autoencoder: absolute, squared and edge differences; most steps see quarter pictures."""
    weights = list(coder.parameters())
    optim = optimiser(weights, plan.coder_rate, 0.0)
    pictures = torch.from_numpy(train.pictures)
    size = min(plan.coder_batch, len(train))
    steps = max(2, plan.coder_epochs * len(train) // size)
    for step, rows in enumerate(batches(len(train), size, steps, rng)):
        target = to_range(pictures[rows])
        if step < 0.85 * steps:
            x, y = (int(v) for v in torch.randint(0, PIXELS // 2 + 1, (2,), generator=rng))
            target = target[:, :, y : y + PIXELS // 2, x : x + PIXELS // 2]
        code = coder.encode(target).latent_dist
        noise = torch.randn(code.mean.shape, generator=rng)
        drawn = coder.decode(code.mean + code.std * noise).sample
        loss = F.l1_loss(drawn, target) + F.mse_loss(drawn, target) + 0.5 * edge_loss(drawn, target)
        loss = loss + plan.divergence * code.kl().mean()
        _step(optim, weights, loss, plan.coder_rate * cosine(step, steps))
        if step % max(1, steps // 10) == 0:
            log(f"coder {step}/{steps} loss {loss.item():.4f}")


def edge_loss(drawn: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Mean absolute difference of the two pictures' horizontal and vertical slopes."""
    gap = drawn - target
    return gap.diff(dim=2).abs().mean() + gap.diff(dim=3).abs().mean()


def _step(optim, weights, loss, rate) -> None:
    for group in optim.param_groups:
        group["lr"] = rate
    optim.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(weights, 1.0)
    optim.step()


@torch.no_grad()
def fix_latents(coder, pictures: np.ndarray) -> torch.Tensor:
    """Latents of all pictures, scaled to unit deviation; the scale is stored with the coder."""
    latents = torch.cat(
        [coder.encode(to_range(p)).latent_dist.mean for p in torch.from_numpy(pictures).split(64)]
    )
    shift, scale = latents.mean().item(), 1 / latents.std().item()
    coder.register_to_config(shift_factor=shift, scaling_factor=scale)
    return (latents - shift) * scale


def read_prompts(pipe, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """What the transformer sees of prompts: (b, tokens, 128) and pooled (b, 128), as the pipeline makes it."""
    outs = [encoder(ids, output_hidden_states=True) for encoder in (pipe.text_encoder, pipe.text_encoder_2)]
    return torch.cat([o.hidden_states[-2] for o in outs], -1), torch.cat([o.text_embeds for o in outs], -1)


def train_texts(pipe, latents: torch.Tensor, taught: list[Lesson], plan: Drawing, rng, log) -> None:
    """The text encoders alone: a small network, thrown away after, guesses the latent picture from the prompt.

    Without it the transformer waits for the encoders to tell products apart, at many times the cost a step.
    """
    width = pipe.transformer.config.pooled_projection_dim
    guess = nn.Sequential(
        nn.LayerNorm(width), nn.Linear(width, 3 * width), nn.GELU(), nn.Linear(3 * width, latents[0].numel())
    )
    parts = nn.ModuleList([pipe.text_encoder, pipe.text_encoder_2, guess])
    weights = list(parts.parameters())
    optim = optimiser(weights, plan.rate, 0.01)
    size = min(2 * plan.batch, len(taught))
    steps = max(1, plan.text_epochs * len(taught) // size)
    for step, rows in enumerate(batches(len(taught), size, steps, rng)):
        picked = [taught[i] for i in rows.tolist()]
        _, pooled = read_prompts(pipe, tokenize(pipe, [lesson_prompt(one, rng) for one in picked]))
        loss = F.mse_loss(guess(pooled), latents[[one.row for one in picked]].flatten(1))
        _step(optim, weights, loss, plan.rate * cosine(step, steps))
        if step % max(1, steps // 10) == 0:
            log(f"texts {step}/{steps} loss {loss.item():.4f}")


def noise_levels(count: int, levels: list[float], rng) -> torch.Tensor:
    """Where flow matching trains: around the levels at which a drawing asks, most at the first, pure noise."""
    chance, spread = torch.rand(count, generator=rng), torch.rand(count, generator=rng)
    near = torch.where(chance < 0.88, levels[1], levels[2]) + 0.06 * (spread - 0.5)
    return torch.where(chance < 0.6, levels[0] - 0.02 * spread, near)


def drawing_levels(pipe) -> list[float]:
    """The noise levels of a drawing but the last one, which is as good as none."""
    pipe.scheduler.set_timesteps(CALL["num_inference_steps"])
    return pipe.scheduler.sigmas[:-2].tolist()


def flow_of(pipe, mixed: torch.Tensor, level: torch.Tensor, context, pooled) -> torch.Tensor:
    """The transformer's flow at each picture's noise level."""
    return pipe.transformer(
        hidden_states=mixed,
        timestep=level * 1000,
        encoder_hidden_states=context,
        pooled_projections=pooled,
        return_dict=False,
    )[0]


@torch.no_grad()
def own_drawing(pipe, noise: torch.Tensor, levels: list[float], context, pooled) -> torch.Tensor:
    """What the model itself has drawn from noise when it arrives at the last of `levels`."""
    mixed = noise
    for level, following in itertools.pairwise(levels):
        flow = flow_of(pipe, mixed, torch.full((len(noise),), level), context, pooled)
        mixed = mixed + (following - level) * flow
    return mixed


def train_flow(pipe, latents: torch.Tensor, taught: list[Lesson], plan: Drawing, rng, log) -> None:
    """Rectified flow from noise to latents, text encoders and transformer together.

    The last part starts from the model's own drawing of the levels before, so that it learns to mend what few
    steps get wrong. Source: Esser et al. (2024), arXiv:2403.03206.
    """
    parts = nn.ModuleList([pipe.transformer, pipe.text_encoder, pipe.text_encoder_2])
    weights = [w for w in parts.parameters() if w.requires_grad]
    optim = optimiser(weights, plan.rate, 0.01)
    levels, size = drawing_levels(pipe), min(plan.batch, len(taught))
    steps = max(1, plan.epochs * len(taught) // size)
    average = [w.detach().clone() for w in weights]
    for step, rows in enumerate(batches(len(taught), size, steps, rng)):
        picked = [taught[i] for i in rows.tolist()]
        context, pooled = read_prompts(pipe, tokenize(pipe, [lesson_prompt(one, rng) for one in picked]))
        clean = latents[[one.row for one in picked]]
        noise, level = torch.randn(clean.shape, generator=rng), noise_levels(size, levels, rng)
        mixed = torch.lerp(clean, noise, level[:, None, None, None])
        if step >= (1 - plan.own_share) * steps:
            asked = int(torch.randint(len(levels), (), generator=rng))
            level = torch.full((size,), levels[asked])
            mixed = own_drawing(pipe, noise, levels[: asked + 1], context.detach(), pooled.detach())
        flow = flow_of(pipe, mixed, level, context, pooled)
        loss = F.mse_loss(flow, (mixed - clean) / level[:, None, None, None])
        _step(optim, weights, loss, plan.rate * cosine(step, steps))
        keep = min(plan.average, (1 + step) / (10 + step))
        torch._foreach_lerp_(average, [w.detach() for w in weights], 1 - keep)
        if step % max(1, steps // 20) == 0:
            log(f"flow {step}/{steps} loss {loss.item():.4f}")
    with torch.no_grad():
        for weight, mean in zip(weights, average, strict=True):
            weight.copy_(mean)


def tokenize(pipe, prompts: list[str]) -> torch.Tensor:
    """(n, TOKENS) token ids, padded and cut as the pipeline does."""
    return pipe.tokenizer(
        prompts, padding="max_length", max_length=TOKENS, truncation=True, return_tensors="pt"
    ).input_ids


def train_sd3(train: Listings, plan: Drawing, seed: int, log) -> tuple:
    """Build and train the generator; returns the pipeline and what it cost."""
    pipe = build_sd3(train, seed)
    rng = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    start, wall = time.process_time(), time.time()
    train_coder(pipe.vae, train, plan, rng, log)
    latents = fix_latents(pipe.vae, train.pictures)
    log(
        f"coder {time.process_time() - start:.0f} cpu-seconds, {coder_quality(pipe.vae, train.pictures):.2f} dB"
    )
    taught = lessons(train)
    train_texts(pipe, latents, taught, plan, rng, log)
    train_flow(pipe, latents, taught, plan, rng, log)
    cost = {
        "cpu_seconds": round(time.process_time() - start, 1),
        "wall_seconds": round(time.time() - wall, 1),
    }
    return pipe, cost


@torch.no_grad()
def coder_quality(coder, pictures: np.ndarray) -> float:
    """Peak signal-to-noise ratio of encoded and decoded pictures, dB."""
    target = to_range(pictures[:128])
    drawn = coder.decode(coder.encode(target).latent_dist.mean).sample.clamp(-1, 1)
    return 10 * math.log10(4 / F.mse_loss(drawn, target).item())


def save_sd3(pipe, folder: Path) -> None:
    """Half-precision weights of every part."""
    modules = [pipe.transformer, pipe.vae, pipe.text_encoder, pipe.text_encoder_2]
    for module in modules:
        module.to(torch.float16)
    pipe.save_pretrained(folder)
    for module in modules:
        module.to(torch.float32)


def load_sd3(folder: Path):
    """A saved pipeline in single precision; its absent third encoder must be named at loading too."""
    from diffusers import AutoPipelineForText2Image

    return AutoPipelineForText2Image.from_pretrained(
        folder, text_encoder_3=None, tokenizer_3=None, dtype=torch.float32, local_files_only=True
    )


def draw(folder: Path, prompts: list[str], seed: int = 0, batch: int = 32) -> np.ndarray:
    """(n, 3, px, px) uint8 pictures of the saved pipeline, one generator a picture."""
    pipe = load_sd3(folder)
    pipe.set_progress_bar_config(disable=True)
    drawn = []
    for i in range(0, len(prompts), batch):
        part = prompts[i : i + batch]
        seeds = [torch.Generator().manual_seed(seed + i + j) for j in range(len(part))]
        drawn.append(pipe(part, generator=seeds, output_type="np", **CALL).images)
    return (np.concatenate(drawn) * 255).round().astype(np.uint8).transpose(0, 3, 1, 2)


def count_sd3(pipe) -> dict[str, int]:
    """Parameters of the pipeline's parts and their sum."""
    names = ("transformer", "vae", "text_encoder", "text_encoder_2")
    parts = {f"{n}_parameters": sum(p.numel() for p in getattr(pipe, n).parameters()) for n in names}
    return {"parameters": sum(parts.values())} | parts
