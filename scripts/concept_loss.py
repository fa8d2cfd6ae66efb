"""How well concept files fit their images: `python scripts/concept_loss.py FILE ... concept=dog`.

For each file, the loss over the same noise and timesteps, none of which training has seen, inside
the masks and outside of them. The other arguments are those of `toolkit train`: they say which
images and which base.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from toolkit.backbones import load_base
from toolkit.concept import load_concept
from toolkit.config.commands import read_train
from toolkit.training.concept_folder import read_concept_folder
from toolkit.training.data import Draws, Shown, batch_at
from toolkit.training.loss import masked_mse
from toolkit.training.module import ConceptTraining
from toolkit.training.optimisers import LearningRates
from toolkit.training.views import ImageViews, Views

UNSEEN_SEED, BATCHES = 12345, 20


@torch.no_grad()
def main(arguments: Sequence[str]) -> None:
    """Print a line for each file."""
    files = [Path(argument) for argument in arguments if argument.endswith(".safetensors")]
    (config,) = read_train([a for a in arguments if not a.endswith(".safetensors")])
    base = load_base(config.model.path, config.model.name)
    images = read_concept_folder(config.concept.images, config.concept.name).images
    views = ImageViews(base, images, Views((config.model.width, config.model.height)))
    for file in files:
        concept = load_concept(file)
        with base.lora_injected(concept.rank, torch.Generator()), base.heard_by_layer():
            base.start_from(concept.changes)
            rates = LearningRates({}, 0)
            start = {part: own.float() for part, own in concept.token_embeddings.items()}
            model = ConceptTraining(base, concept.name, {}, start, rates, 1)
            draws = Draws(UNSEEN_SEED, len(images), 0.0, model.schedule.timesteps)
            inside, outside = [], []
            for step in range(BATCHES):
                batch = batch_at(step, Shown(views), draws)
                noisy = model.schedule.noisy(batch.latents, batch.noise, batch.timesteps)
                wanted = model.schedule.target(batch.latents, batch.noise, batch.timesteps)
                prompts = [model.tokenise(caption) for caption in batch.captions]
                encodings = base.encode_prompts(prompts, model.token_embeddings)
                found = base.predict(noisy, batch.timesteps, encodings)
                inside.append(masked_mse(found, wanted, batch.masks))
                outside.append(masked_mse(found, wanted, 1 - batch.masks))
        losses = [float(torch.stack(losses).mean()) for losses in (inside, outside)]
        print(f"{file}: inside the masks {losses[0]:.4f}, outside {losses[1]:.4f}")


if __name__ == "__main__":
    main(sys.argv[1:])
