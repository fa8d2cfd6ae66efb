"""What plain diffusers makes of a file that we wrote."""

from pathlib import Path
from typing import Any

from toolkit.backbones import Base
from toolkit.concept import Concept
from toolkit.layout.layout import Layout
from toolkit.methods.lora_composer import PUBLISHED
from toolkit.sampling import compose, initial_noise


def check_in_pipeline(pipeline: Any, base: Base, concept: Concept, file: Path) -> None:
    """Its picture with the file is ours of the concept `dog`, and not its picture without."""
    layout = Layout("one", "<dog> on grass", 128, 192, background="dog")
    prepared = PUBLISHED.prepare(base, layout, {"dog": concept})
    ours = compose(base, PUBLISHED, [prepared], [5], 3, 5.0)
    pipeline.scheduler = base.scheduler(3)
    arguments = {
        "latents": initial_noise(base, 128, 192, [5]),
        "width": 128,
        "height": 192,
        "num_inference_steps": 3,
        "guidance_scale": 5.0,
        "output_type": "latent",
    }
    without = pipeline("dog on grass", **arguments).images
    pipeline.load_lora_weights(file)
    theirs = pipeline("dog on grass", **arguments).images
    assert (ours - theirs).abs().max() < 1e-3 * theirs.std()
    assert (ours - without).abs().max() > 0.1 * theirs.std()
