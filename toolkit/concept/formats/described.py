"""What other tools show of a LoRA file: kohya's `ss_` keys and modelspec's, in its header.

https://github.com/Stability-AI/ModelSpec says what the latter mean. Only what is known to be true
is written.
"""

import base64
import hashlib
import io
import json
import struct
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path

from PIL import Image

from toolkit.concept.concept import Concept
from toolkit.files import whole_file

_SD1_EMBEDDINGS = (16, 768)
_THUMBNAIL = 256


def describe_files(files: Iterable[Path], concept: Concept, picture: Image.Image | None) -> None:
    """Add to each .safetensors file what is known of its concept; the tensors stay as they are.

    picture: of the concept, for the thumbnail.
    """
    for path in files:
        if path.suffix == ".safetensors":
            _add(path, facts_of(concept, picture))


def facts_of(concept: Concept, picture: Image.Image | None) -> dict[str, str]:
    """The metadata of a concept, the words that call it first."""
    settings = concept.training
    calls = concept.call
    facts = {
        "modelspec.trigger_phrase": calls,
        "modelspec.sai_model_spec": "1.0.0",
        "modelspec.title": concept.name,
        "modelspec.date": datetime.now().astimezone().isoformat(timespec="seconds"),
        "ss_output_name": concept.name,
    }
    if calls:
        tags = dict.fromkeys(filter(None, (calls, concept.class_word)), 1)
        facts["ss_tag_frequency"] = json.dumps({concept.name: tags})
    if tuple(concept.embeddings.shape[1:]) == _SD1_EMBEDDINGS:
        facts["modelspec.architecture"] = "stable-diffusion-v1/lora"
    if concept.base_name:
        facts["ss_sd_model_name"] = concept.base_name
    if "width" in settings and "height" in settings:
        facts["modelspec.resolution"] = f"{settings['width']}x{settings['height']}"
        facts["ss_resolution"] = f"({settings['width']}, {settings['height']})"
    for key, own in _OF_TRAINING.items():
        if own in settings:
            facts[key] = settings[own]
    if picture is not None:
        facts["modelspec.thumbnail"] = _data_url(picture)
    return facts


_OF_TRAINING = {
    "ss_steps": "steps",
    "ss_max_train_steps": "steps",
    "ss_total_batch_size": "batch_size",
    "ss_learning_rate": "learning_rate_unet",
    "ss_unet_lr": "learning_rate_unet",
    "ss_text_encoder_lr": "learning_rate_text_encoder",
    "ss_seed": "seed",
    "ss_noise_offset": "noise_offset",
}


def _data_url(picture: Image.Image) -> str:
    small = picture.convert("RGB")
    small.thumbnail((_THUMBNAIL, _THUMBNAIL))
    held = io.BytesIO()
    small.save(held, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(held.getvalue()).decode()


def _add(path: Path, facts: Mapping[str, str]) -> None:
    """Write `facts` into a file's header, beside what it says already."""
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header, tensors = json.loads(content[8 : 8 + length]), content[8 + length :]
    digest = hashlib.sha256(tensors).hexdigest()
    facts = {**facts, "modelspec.hash_sha256": f"0x{digest}"}
    metadata = {**header.pop("__metadata__", {}), **facts}
    written = json.dumps({"__metadata__": metadata, **header}).encode()
    written += b" " * (-len(written) % 8)
    with whole_file(path) as temporary:
        temporary.write_bytes(struct.pack("<Q", len(written)) + written + tensors)
