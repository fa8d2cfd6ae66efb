"""The art: which pictures are in, which are held out, and one file that holds them all."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from PIL import Image

CONFIG = Path(__file__).with_name("config.yaml")
PACKED_SIZE = 128  # pixels; the largest object pasted is 112


@dataclass(frozen=True)
class World:
    """What the base knows by name, and what it must not see."""

    styles: tuple[str, ...]
    names: dict[str, str]
    places: dict[str, str]
    concepts: dict[str, tuple[str, str]]  # concept -> (class word, emoji)
    held_out_names: frozenset[str]  # known in the other styles only; class words among them
    held_out_emoji: frozenset[str]
    autoencoder_categories: tuple[str, ...]
    weights: dict[str, float]  # of names and scenery that are drawn more often, where asked for
    alike: dict[str, tuple[str, ...]]  # name -> names of like shape

    def styles_of(self, name: str) -> tuple[str, ...]:
        """The styles in which a name is drawn in training: all, or all but 3D if held out."""
        return tuple(s for s in self.styles if s != "3d" or name not in self.held_out_names)

    def trained_pairs(self) -> list[tuple[str, str]]:
        """Every (name, style) that captions and pictures of the training use."""
        known = [*self.names, *self.places]
        return [(name, style) for name in known for style in self.styles_of(name)]

    def held_out_pairs(self) -> list[tuple[str, str]]:
        """Every (name, style) that no part of the base has seen."""
        return [(name, "3d") for name in sorted(self.held_out_names)]


def load_world(path: Path = CONFIG) -> World:
    """Read the world's list of names."""
    raw: dict[str, Any] = yaml.safe_load(path.read_text())
    concepts = {name: (c["class_word"], c["emoji"]) for name, c in raw["concepts"].items()}
    drawn = {**raw["names"], **raw["places"]}
    held_out = {emoji for _, emoji in concepts.values()} | set(raw["held_out_also"])
    held_out_names = {word for word, _ in concepts.values()} | set(raw["held_out_names"])
    held_out |= {drawn[name] for name in held_out_names}
    return World(
        styles=tuple(raw["styles"]),
        names=raw["names"],
        places=raw["places"],
        concepts=concepts,
        held_out_names=frozenset(held_out_names),
        held_out_emoji=frozenset(held_out),
        autoencoder_categories=tuple(raw["autoencoder_categories"]),
        weights=raw["weights"],
        alike={
            name: tuple(other for other in group if other != name)
            for group in raw["alike"]
            for name in group
        },
    )


def pack_art(world: World, fluent: Path, google: Path, twitter: Path, emoji: Path, to: Path) -> int:
    """Copy the art that is needed into one zip of WebP pictures; returns how many.

    The four folders are the unpacked packages `@lobehub/fluent-emoji-3d`,
    `emoji-datasource-google`, `emoji-datasource-twitter` and `emoji-datasource`.
    Entries are `STYLE/EMOJI.webp`; held-out 3D art goes to `held_out/`, which only the concept
    folders read.
    """
    entries = json.loads((emoji / "emoji.json").read_text())
    wanted = {*world.names.values(), *world.places.values(), *world.held_out_emoji}
    wanted |= {e["short_name"] for e in entries if e["category"] in world.autoencoder_categories}
    count = 0
    temporary = to.with_suffix(".tmp")
    with zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        for entry in entries:
            short_name = entry["short_name"]
            if short_name not in wanted:
                continue
            held_out = short_name in world.held_out_emoji
            sources = {
                "held_out" if held_out else "3d": _fluent_file(fluent, entry["unified"]),
                "cartoon": google / "img/google/64" / entry["image"],
                "flat": twitter / "img/twitter/64" / entry["image"],
            }
            for folder, source in sources.items():
                if source.exists():
                    picture = _as_webp(Image.open(source))
                    archive.writestr(f"{folder}/{short_name}.webp", picture)
                    count += 1
    temporary.replace(to)
    return count


def read_art(pack: Path, folder: str) -> dict[str, Image.Image]:
    """All pictures of one folder of the pack, RGBA, by their emoji's name."""
    with zipfile.ZipFile(pack) as archive:
        return {
            Path(entry).stem: Image.open(io.BytesIO(archive.read(entry))).convert("RGBA")
            for entry in sorted(archive.namelist())
            if entry.startswith(f"{folder}/")
        }


def _fluent_file(folder: Path, unified: str) -> Path:
    code = unified.lower()
    plain = folder / "assets" / f"{code.replace('-fe0f', '')}.webp"
    return plain if plain.exists() else folder / "assets" / f"{code}.webp"


def _as_webp(picture: Image.Image) -> bytes:
    picture = picture.convert("RGBA")
    if picture.width > PACKED_SIZE:
        picture = picture.resize((PACKED_SIZE, PACKED_SIZE), Image.Resampling.LANCZOS)
    packed = io.BytesIO()
    picture.save(packed, "WEBP", lossless=True)
    return packed.getvalue()
