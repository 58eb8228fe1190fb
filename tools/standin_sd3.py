"""A tiny Stable Diffusion 3: how it is built, trained, saved and examined."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from standin_data import PIXELS, VOCABULARY, Listings, learn_merges
from standin_mllm import batches, cosine, optimiser
from torch import nn

TOKENS = 22  # Prompt length that the text encoders read
LATENT = 8  # Channels of the latent picture
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

    coder_epochs: int = 50  # Autoencoder, passes over the training pictures
    epochs: int = 90  # Flow matching, passes over the training listings
    more_epochs: int = 60  # The second round (--resume), at the levels that four steps use
    batch: int = 32
    coder_rate: float = 2e-3
    rate: float = 1.5e-3
    divergence: float = 1e-5  # Weight of the autoencoder's pull to a normal distribution
    forget: float = 0.2  # Share of prompts shown without their keywords
    average: float = 0.998  # Decay of the running average of weights that is kept


def clip_tokenizer(texts: list[str]):
    """CLIP's byte-level BPE, learnt on the prompts."""
    from tokenizers import Regex, pre_tokenizers
    from transformers import CLIPTokenizer

    words = pre_tokenizers.Split(Regex(r"[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"), behavior="removed", invert=True)
    split = pre_tokenizers.Sequence(
        [words, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    special = ["<|startoftext|>", "<|endoftext|>"]
    lower = [text.lower() for text in texts]
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
        patch_size=2,
        in_channels=LATENT,
        out_channels=LATENT,
        num_layers=4,
        attention_head_dim=32,
        num_attention_heads=4,
        joint_attention_dim=128,
        caption_projection_dim=128,
        pooled_projection_dim=128,
        pos_embed_max_size=PIXELS // 8,
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
    size = min(plan.batch, len(train))
    steps = max(2, plan.coder_epochs * len(train) // size)
    for step, rows in enumerate(batches(len(train), size, steps, rng)):
        target = to_range(pictures[rows])
        if step < 0.8 * steps:
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


def short_prompt(prompt: str) -> str:
    """The prompt without its keywords: name and style alone."""
    parts = prompt.split(", ")
    tail = 2 if parts[-1] == "on white" else 1
    return ", ".join([parts[0], *parts[-tail:]])


def read_prompts(pipe, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """What the transformer sees of prompts: (b, tokens, 128) and pooled (b, 128), as the pipeline makes it."""
    outs = [encoder(ids, output_hidden_states=True) for encoder in (pipe.text_encoder, pipe.text_encoder_2)]
    return torch.cat([o.hidden_states[-2] for o in outs], -1), torch.cat([o.text_embeds for o in outs], -1)


def noise_levels(count: int, rng, steps: bool) -> torch.Tensor:
    """Where flow matching trains: logit-normal with a third of the mass close to pure noise, or, for `steps`,
    mostly around the levels 1, 2/3 and 1/3 at which a drawing in four steps asks the transformer.
    """
    chance, spread = torch.rand(count, generator=rng), torch.rand(count, generator=rng)
    high = 1 - 0.02 * spread
    if steps:
        near = torch.where(chance < 0.75, 2 / 3, 1 / 3) + 0.08 * (spread - 0.5)
        return torch.where(chance < 0.5, high, torch.where(chance < 0.95, near, spread))
    middle = torch.sigmoid(0.3 + torch.randn(count, generator=rng))
    return torch.where(chance < 0.35, high, middle)


def train_flow(
    pipe, latents: torch.Tensor, train: Listings, plan: Drawing, rng, log, second: bool = False
) -> None:
    """Rectified flow from noise to latents, text encoders and transformer together.

    Source: Esser et al. (2024), arXiv:2403.03206.
    """
    parts = nn.ModuleList([pipe.transformer, pipe.text_encoder, pipe.text_encoder_2])
    weights = [w for w in parts.parameters() if w.requires_grad]
    optim = optimiser(weights, plan.rate, 0.01)
    full, short = (
        tokenize(pipe, texts) for texts in (train.prompts, [short_prompt(p) for p in train.prompts])
    )
    size = min(plan.batch, len(train))
    steps = max(1, (plan.more_epochs if second else plan.epochs) * len(train) // size)
    average = [w.detach().clone() for w in weights]
    for step, rows in enumerate(batches(len(train), size, steps, rng)):
        forget = torch.rand(size, generator=rng) < plan.forget
        context, pooled = read_prompts(pipe, torch.where(forget[:, None], short[rows], full[rows]))
        clean = latents[rows]
        level, noise = noise_levels(size, rng, second), torch.randn(clean.shape, generator=rng)
        mixed = torch.lerp(clean, noise, level[:, None, None, None])
        flow = pipe.transformer(
            hidden_states=mixed,
            timestep=level * 1000,
            encoder_hidden_states=context,
            pooled_projections=pooled,
            return_dict=False,
        )[0]
        loss = F.mse_loss(flow, noise - clean)
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
    train_flow(pipe, latents, train, plan, rng, log)
    cost = {
        "cpu_seconds": round(time.process_time() - start, 1),
        "wall_seconds": round(time.time() - wall, 1),
    }
    return pipe, cost


def resume_sd3(folder: Path, train: Listings, plan: Drawing, seed: int, log) -> tuple:
    """The second round: a saved generator learns on, its autoencoder fixed; returns pipeline and cost."""
    pipe = load_sd3(folder)
    rng = torch.Generator().manual_seed(seed + 1)
    start, wall = time.process_time(), time.time()
    with torch.no_grad():
        parts = [
            pipe.vae.encode(to_range(p)).latent_dist.mean for p in torch.from_numpy(train.pictures).split(64)
        ]
    latents = (torch.cat(parts) - pipe.vae.config.shift_factor) * pipe.vae.config.scaling_factor
    for part in (pipe.transformer, pipe.text_encoder, pipe.text_encoder_2):
        part.train()
    train_flow(pipe, latents, train, plan, rng, log, second=True)
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
