"""What the maps are given when one concept acts: the rows that its fused weights must serve.

In the order of the stages, each of which needs the results of those before. Rows are (n, in) in
float32, by the name of the map that is given them (`input_name`).
"""

from collections.abc import Callable, Collection, Mapping

import torch
from diffusers import SchedulerMixin
from torch import Tensor

from toolkit.backbones import Base, Part
from toolkit.backbones.low_rank import LowRank
from toolkit.backbones.unet.linear_inputs import reads_text
from toolkit.concept import Concept
from toolkit.errors import RunError
from toolkit.fusion.prompts import encode_versions, length_of, shown, unpadded

See = Callable[[str, Tensor], None]
"""Is told the name of a map and the rows that it was given."""


def text_evidence(
    base: Base, concept: Concept, part: Part, names: Collection[str], see: See
) -> None:
    """Every place of both prompts in every version, under the concept's own text encoder `part`."""
    with (
        base.changed(part, concept.changes[part], concept.scale),
        base.inputs_watched(part, names, lambda name, rows: see(name, rows.float())),
    ):
        for prompt in shown(base, concept):
            encode_versions(base, concept, unpadded(prompt))


def cross_evidence(
    base: Base, concept: Concept, text: Mapping[Part, Mapping[str, LowRank]], see: See
) -> None:
    """What calls the concept, and the end token, as the fused text encoder gives them.

    Of each layer its own version of both prompts; the names are those of cross-attention's keys.
    text: the fused text encoders' changes.
    """
    places = length_of(base, concept) + 1
    with base.changed_text(text):
        for prompt in shown(base, concept):
            versions = encode_versions(base, concept, unpadded(prompt)).hidden[0].float()
            for layer in base.layers:
                see(layer.keys_of_text, versions[layer.transformer, -places:])


@torch.no_grad()
def picture_evidence(
    base: Base,
    concept: Concept,
    text: Mapping[Part, Mapping[str, LowRank]],
    keys_values: Mapping[str, LowRank],
    noise: Tensor,
    scheduler: SchedulerMixin,
    names: Collection[str],
    advance: Callable[[], object],
    see: See,
) -> Tensor:
    """Every cell at every step of one picture of the concept alone, without any guidance.

    text, keys_values: the fused changes of the text encoders, of cross-attention's keys and
    values. noise: (1, channels, h, w). scheduler: set to its timesteps. advance: called after each
    step. Returns the picture's latents. Raises RunError when they stop being finite.
    """
    own = {path: change for path, change in concept.unet.items() if not reads_text(path)}
    prompt = shown(base, concept)[0]
    with base.changed_text(text):
        encoding = encode_versions(base, concept, prompt)
    latents = noise.to(base.device, torch.float32) * scheduler.init_noise_sigma
    with (
        base.heard_by_layer(),
        base.changed(Part.UNET, keys_values),
        base.changed(Part.UNET, own, concept.scale),
        base.inputs_watched(Part.UNET, names, lambda name, rows: see(name, rows.float())),
    ):
        for timestep in scheduler.timesteps:
            given = scheduler.scale_model_input(latents, timestep).to(base.dtype)
            predicted = base.predict(given, timestep, encoding).float()
            latents = scheduler.step(predicted, timestep, latents).prev_sample
            if not latents.isfinite().all():
                raise RunError(f"the picture of {concept.name} is no longer finite")
            advance()
    return latents
