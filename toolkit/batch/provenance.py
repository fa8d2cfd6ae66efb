"""What a picture was made from, in its own file: text chunks that other tools show."""

import json
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from PIL.PngImagePlugin import PngInfo

from toolkit.batch.journal import size_of

_LIBRARIES = ("torch", "diffusers", "transformers")


def text_chunks(inputs: Mapping[str, Any], further: Mapping[str, Any]) -> PngInfo:
    """A PNG's `toolkit` chunk, all inputs as JSON, and `parameters`, as A1111 writes and reads it.

    inputs: what SEED.json keeps of a picture, with the layout and its seed. further: what its
    second passes did.
    """
    chunks = PngInfo()
    libraries = {name: version(name) for name in _LIBRARIES}
    versions = {"toolkit": version("lora-composer-toolkit"), **libraries}
    done = {"further": further} if further else {}
    chunks.add_itxt("toolkit", json.dumps({**inputs, **done, "versions": versions}))
    chunks.add_itxt("parameters", parameters(inputs))
    return chunks


def parameters(inputs: Mapping[str, Any]) -> str:
    """The lines that A1111 and tools after it show: prompt, negative prompt, settings."""
    layout = inputs["layout"]
    regions = " ".join(f"[{region['prompt']}]" for region in layout["regions"])
    settings = {
        "Steps": inputs["steps"],
        "Sampler": "DPM++ 2M",
        "CFG scale": inputs["guidance_scale"],
        "Seed": inputs["seed"],
        "Size": "x".join(map(str, size_of(inputs))),
        "Model": inputs["base"].get("name", ""),
        "Model hash": inputs["base"].get("weights", ""),
        "Lora hashes": ", ".join(f"{n}: {h[:12]}" for n, h in inputs["concepts"].items()),
        "Version": f"lora-composer-toolkit {version('lora-composer-toolkit')}",
    }
    second = inputs.get("second", {})
    if "upscale" in second:  # as A1111 calls the same
        settings["Hires upscale"] = second["upscale"]
        settings["Denoising strength"] = second["upscale_strength"]
    lines = [
        " ".join(filter(None, [layout["prompt"], regions])),
        f"Negative prompt: {layout['negative_prompt']}",
        ", ".join(f"{key}: {_quoted(value)}" for key, value in settings.items()),
    ]
    return "\n".join(lines)


def _quoted(value: object) -> str:
    """As A1111 writes a setting: in quotes where a comma or colon in it would end it."""
    text = str(value)
    return json.dumps(text) if set(text) & set(",:\n") else text
