"""What LoRA-Composer is measured against: same base, noise, scheduler, steps and guidance scale.

prompt_only: the base alone, with class words. merge: all LoRAs added into one set of weights, all
tokens in one prompt. lora_switch and lora_composite (Zhong et al. 2024, arXiv 2402.16843): one
LoRA for each step in turn; the mean of the predictions under each LoRA. regional_prompt: LoRAs
merged, and each box hears a prompt of its own with the class word. regional_tokens: the same with
the concept's own tokens in the boxes. empty_scene is no rival: it draws the place without its
subjects, which others are held against.
"""

import re
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from toolkit.backbones import Base
from toolkit.backbones.unet.conditioning import Conditioning, Voice, condition
from toolkit.concept import Concept
from toolkit.concept.concept import written_out
from toolkit.concept.merge import merged
from toolkit.errors import RunError
from toolkit.layout.layout import Layout
from toolkit.methods.method import Method, Sampler
from toolkit.methods.prompts import region_prompt
from toolkit.sampling import Step, Watcher, compose, initial_noise, predict

PLAIN = Method(
    concept_region_mask=False,
    enhancement=False,
    fill_loss=False,
    region_loss=False,
    reinitialisation=False,
)
"""Sampling without any part of LoRA-Composer but prompts that stand in boxes."""

_ALTERNATING = (Sampler.LORA_SWITCH, Sampler.LORA_COMPOSITE)


def prepare_rival(
    base: Base, layout: Layout, concepts: Mapping[str, Concept], sampler: Sampler
) -> tuple[Conditioning, ...]:
    """The layout as a rival reads it: one conditioning, or one for each concept of the layout.

    Raises InputError as `prepare` does.
    """
    own = [concepts[name] for name in layout.concepts]
    weights = [_strength(layout, name) for name in layout.concepts]
    if sampler is Sampler.PROMPT_ONLY or not own:
        voice = Voice(None, described(layout.prompt, own), layout.negative_prompt)
        return (condition(base, layout, voice, []),)
    if sampler is Sampler.EMPTY_SCENE:
        voice = Voice(None, scene_of(layout, concepts), layout.negative_prompt)
        return (condition(base, layout, voice, []),)
    prompt = joint_prompt(layout, concepts)
    if sampler in _ALTERNATING:
        single = [
            merged(own, [weight if i == j else 0.0 for j, weight in enumerate(weights)])
            for i in range(len(own))
        ]
        return tuple(
            condition(base, layout, Voice(concept, prompt, layout.negative_prompt), [])
            for concept in single
        )
    everyone = merged(own, weights)
    regions = []
    if sampler in (Sampler.REGIONAL_PROMPT, Sampler.REGIONAL_TOKENS):
        for region in layout.regions:
            said = region_prompt(region, layout, concepts)
            if sampler is Sampler.REGIONAL_PROMPT:
                said = described(region.prompt, own)
            regions.append(Voice(everyone, said, layout.negative_prompt_of(region)))
        if sampler is Sampler.REGIONAL_PROMPT:
            prompt = described(layout.prompt, own)
    return (condition(base, layout, Voice(everyone, prompt, layout.negative_prompt), regions),)


@torch.no_grad()
def compose_rival(
    base: Base,
    views: Sequence[tuple[Conditioning, ...]],
    seeds: Sequence[int],
    sampler: Sampler,
    steps: int = 50,
    guidance_scale: float = 7.5,
    watch: Watcher = lambda step: None,
) -> Tensor:
    """Sample one picture for each (what `prepare_rival` made, seed); all canvases have one size.

    Returns (pictures, channels, h, w) latents in float32. Raises RunError when the latents stop
    being finite.
    """
    if sampler not in _ALTERNATING:
        alone = [view for (view,) in views]
        return compose(base, alone, seeds, PLAIN, steps, guidance_scale, watch)
    canvas = views[0][0].layout
    scheduler = base.scheduler(steps)
    latents = initial_noise(base, canvas.width, canvas.height, seeds) * scheduler.init_noise_sigma
    for number, timestep in enumerate(scheduler.timesteps):
        if sampler is Sampler.LORA_SWITCH:
            turn = [view[number % len(view)] for view in views]
            noise = predict(base, latents, timestep, turn, PLAIN, guidance_scale)
        else:
            noise = _mean_prediction(base, latents, timestep, views, guidance_scale)
        before = latents
        latents = scheduler.step(noise, timestep, latents).prev_sample
        if not latents.isfinite().all():
            raise RunError(f"the latents are no longer finite at step {number} of {steps}")
        watch(Step(number, int(timestep), {}, before, latents, []))
    return latents


def joint_prompt(layout: Layout, concepts: Mapping[str, Concept]) -> str:
    """The whole picture's prompt with every region's tokens in it.

    They take the place of the class word where the prompt has it, one for each region; a region
    whose class word the prompt lacks has its own prompt put behind.
    """
    prompt = layout.prompt
    said: dict[str, str] = {}
    behind = []
    for number, region in enumerate(layout.regions):
        concept = concepts[region.concept]
        word = rf"\b{re.escape(concept.class_word)}\b"
        if region.concept == layout.background:
            continue
        if concept.class_word and re.search(word, prompt):
            mark = f"\0{number}\0"  # not the tokens yet: a trigger may hold another class word
            prompt = re.sub(word, mark, prompt, count=1)
            said[mark] = concept.call
        else:
            behind.append(region_prompt(region, layout, concepts))
    if layout.background:
        said[concepts[layout.background].placeholder] = concepts[layout.background].call
    prompt = written_out(prompt, said)
    return ", ".join([prompt, *behind])


def scene_of(layout: Layout, concepts: Mapping[str, Concept]) -> str:
    """The layout's prompt without its subjects: "a dog and a cat on the grass" is "on the grass".

    Of each region one mention of its class word goes, with the article and the comma or "and"
    before it.
    """
    prompt = described(layout.prompt, [concepts[name] for name in layout.concepts])
    for region in layout.regions:
        word = re.escape(concepts[region.concept].class_word)
        if word:
            mention = rf"(?:,?\s*\band\b\s+|,\s*)?(?:\b(?:an?|the|one|two)\s+)?\b{word}s?\b"
            prompt = re.sub(mention, "", prompt, count=1)
    return " ".join(prompt.split()).strip(" ,")


def described(prompt: str, concepts: Sequence[Concept]) -> str:
    """`prompt` with every concept's class word in place of its tokens."""
    if not concepts:
        return prompt
    said = {token: word for own in concepts for token, word in own.described_tokens.items()}
    said |= {concept.placeholder: concept.class_word for concept in concepts}
    return " ".join(written_out(prompt, said).split())


def _strength(layout: Layout, name: str) -> float:
    """The largest strength at which the layout uses a concept; a background's is 1."""
    own = [region.strength for region in layout.regions if region.concept == name]
    return max([*own, 1.0] if name == layout.background else own)


def _mean_prediction(
    base: Base,
    latents: Tensor,
    timestep: Tensor,
    views: Sequence[tuple[Conditioning, ...]],
    guidance_scale: float,
) -> Tensor:
    """(pictures, channels, h, w): for each picture the mean of what its views predict."""
    means = []
    for picture, own in zip(latents.split(1), views, strict=True):
        predicted = predict(
            base, picture.expand(len(own), -1, -1, -1), timestep, own, PLAIN, guidance_scale
        )
        means.append(predicted.mean(dim=0, keepdim=True))
    return torch.cat(means)
