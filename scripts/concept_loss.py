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
from toolkit.training.attention import layerwise_cross_attention
from toolkit.training.concept_folder import read_concept_folder
from toolkit.training.data import Draws, ImageViews, Views, batch_at
from toolkit.training.ed_lora import lora_injected, set_low_rank_changes
from toolkit.training.loss import masked_mse, noisy_latents, target
from toolkit.training.module import ConceptTraining, LearningRates

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
        with lora_injected(base, concept.rank, torch.Generator()), layerwise_cross_attention(base):
            set_low_rank_changes(base.unet, concept.unet)
            set_low_rank_changes(base.text_encoder, concept.text_encoder)
            rates = LearningRates(0, 0, 0)
            model = ConceptTraining(base, concept.name, {}, concept.embeddings.float(), rates, 1)
            draws = Draws(UNSEEN_SEED, len(images), 0.0, len(model.signal))
            inside, outside = [], []
            for step in range(BATCHES):
                batch = batch_at(step, views, draws)
                signal = model.signal[batch.timesteps]
                noisy = noisy_latents(batch.latents, batch.noise, signal)
                wanted = target(batch.latents, batch.noise, signal, model.prediction_type)
                prompts = [model.tokenise(caption) for caption in batch.captions]
                found = base.unet(noisy, batch.timesteps, model.encode(prompts)).sample
                inside.append(masked_mse(found, wanted, batch.masks))
                outside.append(masked_mse(found, wanted, 1 - batch.masks))
        losses = [float(torch.stack(losses).mean()) for losses in (inside, outside)]
        print(f"{file}: inside the masks {losses[0]:.4f}, outside {losses[1]:.4f}")


if __name__ == "__main__":
    main(sys.argv[1:])
