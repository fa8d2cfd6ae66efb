"""What a picture was made from, in its own file: text chunks that other tools show."""

import json
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from PIL.PngImagePlugin import PngInfo

_LIBRARIES = ("torch", "diffusers", "transformers")


def text_chunks(inputs: Mapping[str, Any]) -> PngInfo:
    """A PNG's `toolkit` chunk, all inputs as JSON, and `parameters`, as A1111 writes and reads it.

    inputs: what SEED.json keeps of a picture, with the layout and its seed.
    """
    chunks = PngInfo()
    libraries = {name: version(name) for name in _LIBRARIES}
    versions = {"toolkit": version("lora-composer-toolkit"), **libraries}
    chunks.add_itxt("toolkit", json.dumps({**inputs, "versions": versions}))
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
        "Size": f"{layout['width']}x{layout['height']}",
        "Model": inputs["base"].get("name", ""),
        "Model hash": inputs["base"].get("weights", ""),
        "Lora hashes": ", ".join(f"{n}: {h[:12]}" for n, h in inputs["concepts"].items()),
        "Version": f"lora-composer-toolkit {version('lora-composer-toolkit')}",
    }
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
