"""A Stable Diffusion model, frozen: what it is made of, and what it can be asked."""

import copy
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderTiny,
    DPMSolverMultistepScheduler,
    UNet2DConditionModel,
)
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from toolkit.backbones import protocol
from toolkit.backbones.families import SD1, SD2, SDXL
from toolkit.backbones.identity import Identity
from toolkit.backbones.injection import injected, injected_halves, learned, start_from
from toolkit.backbones.low_rank import LowRank, linear_maps
from toolkit.backbones.map_change import MapChange, maps_of, shapes_in
from toolkit.backbones.pass_count import PassCount
from toolkit.backbones.placed import changes_applied, placed, ready
from toolkit.backbones.prompts import Prompt, Regional
from toolkit.backbones.sizes import Sizes
from toolkit.backbones.trained import Place, TrainedMap
from toolkit.backbones.unet import autoencoder
from toolkit.backbones.unet.attention import install
from toolkit.backbones.unet.configuration import sizes_of
from toolkit.backbones.unet.fingerprint import weights_fingerprint
from toolkit.backbones.unet.foreign_names import ForeignNames
from toolkit.backbones.unet.framing import Framing, added_conditions
from toolkit.backbones.unet.layerwise import CrossAttentionMaps, layerwise_cross_attention
from toolkit.backbones.unet.linear_inputs import inputs_watched
from toolkit.backbones.unet.names import Part
from toolkit.backbones.unet.schedule import NoiseSchedule
from toolkit.backbones.unet.sites import AttentionLayer, attention_layers
from toolkit.backbones.unet.text import (
    Encodings,
    TextReader,
    TokenisedPrompt,
    encode,
    tokenise,
)
from toolkit.backbones.waiting import brought
from toolkit.errors import InputError
from toolkit.layout.layout import Layout

if TYPE_CHECKING:
    from toolkit.backbones.unet.conditioning import Conditioning
    from toolkit.backbones.unet.passes import Passes

_UNET_MAPS = r".*\.attn[12]\.(to_q|to_k|to_v|to_out\.0)"
"""The maps that training puts a LoRA on: all of attention's (Mix-of-Show, arXiv 2305.18292)."""

_MAPS_OF = {
    Place.TEXT_ENCODER: r"self_attn\.\w+",
    Place.SELF_ATTENTION: r"attn1\.[\w.]+",
    Place.CROSS_ATTENTION: r"attn2\.[\w.]+",
}
"""The ends of those maps' paths, by what they belong to."""


def _place_of(part: Part, path: str) -> Place:
    if part is not Part.UNET:
        return Place.TEXT_ENCODER
    return Place.SELF_ATTENTION if ".attn1." in path else Place.CROSS_ATTENTION


_VALUES_PER_CHANNEL = 200
"""Values that one picture needs at its peak, for each latent cell and channel of the first level.

Measured on a CPU in float32 as the growth of peak memory from one picture to two
(`scripts/benchmark_compose.py --batch`, Stable Diffusion 1.5, 512 x 512, 2 concepts): 192.
For XL at 1024 x 1024 that is 2.1 GB in 16 bits, where its guidance pass keeps 1.2 GB for one
picture and 1.9 GB for two (`scripts/guidance_memory.py --batch`).
"""


@dataclass(frozen=True)
class Base:
    """A frozen text-to-image model; nothing in it is ever changed by training or composing.

    guidance_downscale: the latent's height divided by that of the grid at which LoRA-Composer reads
        its attention maps (4 for SD 1.5).
    vae: None for a model without one; pictures can then not be made, latents can.
    tokenizer_2, text_encoder_2: Stable Diffusion XL's second ones. Both tokenizers cut a text into
        the same tokens, and fill up the window with different ones.
    zeros_for_no_negative: the negative side hears zeros, and not what the text encoders say of an
        empty text, where a negative prompt is empty (`force_zeros_for_empty_prompt`).
    guidance_layers: which transformers at that grid are read, counted as ED-LoRA counts them; None:
        all. Of each the last block is.
    overrides: as `Identity` has them.
    compiled: denoising passes are compiled as one graph, which the first of them waits for.
    waiting: names of networks that are on the CPU but for while they are used (`at_hand`).
    lock: held by whoever changes its networks for a while, so that two threads may share a base.
        A thread that holds it may take it again. Nothing inside a network's pass may take it:
        torch runs backward passes, and what they compute again, in threads of its own.
    passes_made: by all who compose with it.
    """

    name: str
    tokenizer: CLIPTokenizer
    text_encoder: CLIPTextModel
    unet: UNet2DConditionModel
    vae: AutoencoderKL | AutoencoderTiny | None
    scheduler_config: dict[str, Any]
    guidance_downscale: int
    architecture: str
    weights: str
    tokenizer_2: CLIPTokenizer | None = None
    text_encoder_2: CLIPTextModelWithProjection | None = None
    zeros_for_no_negative: bool = False
    guidance_layers: tuple[int, ...] | None = None
    overrides: str = ""
    compiled: bool = False
    waiting: frozenset[str] = frozenset()
    lock: threading.RLock = field(default_factory=threading.RLock, repr=False, compare=False)
    passes_made: PassCount = field(default_factory=PassCount, repr=False, compare=False)

    def __post_init__(self) -> None:
        install(self.unet, self.layers)

    def __getstate__(self) -> dict[str, Any]:
        """What a copy, or another process, gets: all but the lock, which is one process's own."""
        return {name: value for name, value in vars(self).items() if name != "lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """A copy has a lock of its own."""
        vars(self).update(state, lock=threading.RLock())

    @cached_property
    def denoiser(self) -> Callable[..., Any]:
        """The U-Net as denoising passes call it."""
        return torch.compile(self.unet, fullgraph=True) if self.compiled else self.unet

    @cached_property
    def maps(self) -> Mapping[str, nn.Module]:
        """The U-Net's maps that concepts may change, by path."""
        with self.lock:
            return maps_of(self.unet)

    @property
    def parts(self) -> dict[Part, nn.Module]:
        """The networks that concepts change, in the order in which a prompt goes through them."""
        second = {} if self.text_encoder_2 is None else {Part.TEXT_ENCODER_2: self.text_encoder_2}
        return {Part.TEXT_ENCODER: self.text_encoder, **second, Part.UNET: self.unet}

    @cached_property
    def readers(self) -> tuple[TextReader, ...]:
        """The text encoders, in the order in which their words stand side by side.

        Stable Diffusion XL hears the last layer but one of both, and the second's pooled text.
        Stable Diffusion 2.x hears its last layer: the one behind it was left out of the file.
        """
        if self.text_encoder_2 is None or self.tokenizer_2 is None:
            pad = int(self.tokenizer.pad_token_id)
            return (TextReader(Part.TEXT_ENCODER, self.text_encoder, pad),)
        return (
            TextReader(
                Part.TEXT_ENCODER, self.text_encoder, int(self.tokenizer.pad_token_id), True
            ),
            TextReader(
                Part.TEXT_ENCODER_2,
                self.text_encoder_2,
                int(self.tokenizer_2.pad_token_id),
                True,
                pools=True,
            ),
        )

    @property
    def networks(self) -> dict[str, nn.Module]:
        """Networks by name, for whoever moves them to a device together; none that waits."""
        return {name: own for name, own in self._all_networks.items() if name not in self.waiting}

    @property
    def _all_networks(self) -> dict[str, nn.Module]:
        networks: dict[str, nn.Module] = {"unet": self.unet, "text_encoder": self.text_encoder}
        if self.text_encoder_2 is not None:
            networks["text_encoder_2"] = self.text_encoder_2
        return networks if self.vae is None else networks | {"vae": self.vae}

    @contextmanager
    def at_hand(self, *names: str) -> Iterator[None]:
        """Let networks be where the U-Net is, also those that wait, for the length of the block."""
        waiting = [
            own for name, own in self._all_networks.items() if name in self.waiting & {*names}
        ]
        if not waiting:
            yield
            return
        with self.lock, brought(waiting, self.device):
            yield

    @property
    def device(self) -> torch.device:
        return self._weight.device

    @property
    def dtype(self) -> torch.dtype:
        return self._weight.dtype

    @property
    def _weight(self) -> Tensor:
        """One of all: diffusers' own `device` and `dtype` walk through every module, in 3 ms."""
        weight: Tensor = self.unet.conv_in.weight
        return weight

    @cached_property
    def layers(self) -> list[AttentionLayer]:
        """The U-Net's attention layers in ED-LoRA's order."""
        return attention_layers(self.unet)

    @cached_property
    def guiding(self) -> list[AttentionLayer]:
        """The layers whose maps the constraints read: the last block of each transformer there."""
        return [
            layer
            for layer in self.layers
            if layer.downscale == self.guidance_downscale
            and layer.last
            and (self.guidance_layers is None or layer.transformer in self.guidance_layers)
        ]

    @property
    def levels(self) -> int:
        """Of the U-Net, each half as high and wide as the one before."""
        return len(self.unet.config.block_out_channels)

    @property
    def family(self) -> str:
        """Which family it is of, in words."""
        if self.text_encoder_2 is not None:
            return SDXL
        return SD2 if self.unet.config.use_linear_projection else SD1

    @property
    def transformers(self) -> int:
        """How many encodings of a prompt the U-Net hears: ED-LoRA's layers."""
        return self.layers[-1].transformer + 1

    @property
    def text_width(self) -> int:
        """Of what cross-attention reads."""
        return int(self.unet.config.cross_attention_dim)

    @property
    def latent_channels(self) -> int:
        return int(self.unet.config.in_channels)

    @cached_property
    def sizes(self) -> Sizes:
        """What canvases it can make."""
        vae = None if self.vae is None else len(self.vae.config.block_out_channels)
        return sizes_of(self.levels, vae, self.guidance_downscale)

    @property
    def pixels_per_latent(self) -> int:
        """How many pixels high and wide one latent cell is."""
        return self.sizes.pixels_per_latent

    def latent_size(self, width: int, height: int) -> tuple[int, int]:
        """Rows and columns of latents for a canvas in pixels."""
        return self.sizes.latent_size(width, height)

    def guidance_cells(self, width: int, height: int) -> tuple[int, int]:
        """Rows and columns of the guidance grid for a canvas in pixels."""
        return self.sizes.guidance_cells(width, height)

    def check_layout(self, layout: Layout) -> None:
        """Raise InputError for a size it cannot make, a box without a cell, a wrong condition."""
        from toolkit.backbones.unet import controls

        self.sizes.check_layout(layout, self.name)
        controls.check_conditions(layout, self)

    def check_prompt(self, prompt: Prompt) -> None:
        """Raise InputError for a prompt that does not fit, or that calls no concept."""
        from toolkit.backbones.unet import conditioning

        conditioning.check_prompt(prompt, self)

    def condition(
        self, layout: Layout, canvas: Prompt, regions: Sequence[Prompt] = ()
    ) -> "Conditioning":
        """The layout with these prompts, encoded under their concepts.

        regions: a prompt for each region of the layout, or none at all.
        Raises InputError when a box does not fit the canvas, or a prompt the window.
        """
        from toolkit.backbones.unet import conditioning

        return conditioning.condition(self, layout, canvas, regions)

    def passes(
        self,
        conditionings: Sequence[protocol.Conditioning],
        regional: Regional,
        grouped: bool | None = None,
    ) -> "Passes":
        """The passes over pictures of these layouts, one picture for each.

        grouped: isolation by groups of cells and not by a mask; None takes what is faster.
        """
        from toolkit.backbones.unet.passes import Passes

        own = cast("Sequence[Conditioning]", conditionings)  # what `condition` made
        return Passes(self, own, regional, grouped)

    @property
    def identity(self) -> Identity:
        """Which base it is, for the record of a result."""
        autoencoder = "" if self.vae is None else weights_fingerprint(self.vae)
        return Identity(self.name, self.architecture, self.weights, autoencoder, self.overrides)

    def scheduler(self, steps: int) -> DPMSolverMultistepScheduler:
        """DPM-Solver++ of order 2, set to `steps` timesteps, ending at the smallest sigma."""
        scheduler = DPMSolverMultistepScheduler.from_config(
            self.scheduler_config,
            algorithm_type="dpmsolver++",
            solver_order=2,
            final_sigmas_type="sigma_min",
        )
        scheduler.set_timesteps(steps, device=self.device)
        return scheduler

    @property
    def embedding_shapes(self) -> dict[Part, tuple[int, int]]:
        """(layers, width) of what stands for one of a concept's tokens, by text encoder."""
        return {reader.part: (self.transformers, reader.width) for reader in self.readers}

    def map_weights(self, part: Part) -> dict[str, Tensor]:
        """(out, in) of each linear map of a part, by its path; a view of the base's own weights."""
        with self.lock:
            maps = linear_maps(self.parts[part]) if part in self.parts else {}
        return {path: linear.weight.flatten(1) for path, linear in maps.items()}

    def map_shapes(self, part: Part) -> dict[str, tuple[int, int]]:
        """(out, in) of each linear map of a part, by its path; none of a part that it lacks."""
        with self.lock:  # a training that goes on meanwhile has other modules in their places
            maps = linear_maps(self.parts[part]) if part in self.parts else {}
        return {path: (map_.weight.shape[0], map_.weight.shape[1]) for path, map_ in maps.items()}

    def weight_shapes(self, part: Part) -> dict[str, tuple[int, ...]]:
        """The shape of the weight of each map of a part that a concept may change, by its path."""
        with self.lock:
            return shapes_in(maps_of(self.parts[part])) if part in self.parts else {}

    def bytes_of_picture(self, width: int, height: int) -> int:
        """What one more picture in a batch takes, in bytes: an estimate."""
        rows, columns = self.latent_size(width, height)
        channels = int(self.unet.config.block_out_channels[0])
        return rows * columns * channels * _VALUES_PER_CHANNEL * self.dtype.itemsize

    def bytes_of_canvas(self, width: int, height: int) -> int:
        """What one picture takes with its largest concept region mask, in bytes: an estimate.

        On a CPU there is no such mask.
        """
        needed = self.bytes_of_picture(width, height)
        if self.device.type == "cpu":
            return needed
        rows, columns = self.latent_size(width, height)
        finest = min(layer.downscale for layer in self.layers)
        return needed + (rows * columns // finest**2) ** 2 * self.dtype.itemsize

    def foreign_names(self) -> ForeignNames:
        """What other programs call the maps of this base."""
        with self.lock:
            return ForeignNames(self.parts)

    @property
    def token_tables(self) -> dict[Part, Tensor]:
        """(vocabulary, width) in float32 by text encoder: what the words that it knows start as."""
        tables = {reader.part: reader.network.get_input_embeddings() for reader in self.readers}
        return {part: table.weight.detach().float() for part, table in tables.items()}

    def token_ids(self, text: str) -> list[int]:
        """The rows of `token_tables` that `text` is read as."""
        ids: list[int] = self.tokenizer(text, add_special_tokens=False).input_ids
        return ids

    def tokenise(self, prompt: str, concept_words: Sequence[str] = ()) -> TokenisedPrompt:
        """`prompt` as the text encoders read it; each of `concept_words` takes one place."""
        return tokenise(prompt, self.tokenizer, concept_words)

    def encode_prompts(
        self,
        prompts: Sequence[TokenisedPrompt],
        embeddings: Mapping[Part, Tensor] | None = None,
    ) -> Encodings:
        """The prompts for `predict`, in the base's type; each distinct prompt is encoded once.

        embeddings: for each text encoder (tokens, layers, width) of the concept whose words stand
        in the prompts; gradients flow into them. Without any all layers hear the same.
        """
        distinct = list(dict.fromkeys(prompts))
        with self.at_hand(*(reader.part for reader in self.readers)):
            encodings = encode(self.readers, distinct, embeddings, self.transformers)
        return encodings.rows([distinct.index(prompt) for prompt in prompts]).to(self.dtype)

    def trainable_text_encoder(self) -> nn.Module:
        """A copy of the first text encoder in float32, all of whose parameters train."""
        with self.lock:
            own = copy.deepcopy(self.text_encoder)
        return own.float().requires_grad_(True)

    def encode_by(self, text_encoder: nn.Module | None, prompt: TokenisedPrompt) -> Tensor:
        """(places, width) of a prompt, by a copy of the first text encoder; None: by its own."""
        reader = self.readers[0]
        if text_encoder is not None:
            reader = replace(reader, network=cast("CLIPTextModel", text_encoder))
        with self.lock, self.at_hand(reader.part):
            said, _ = reader.read(reader.ids([prompt]), [prompt.end])
        return said[0]

    def mentions(self, word: str, prompt: TokenisedPrompt) -> list[tuple[int, ...]]:
        """Each time that a prompt says `word`: the places of its tokens."""
        from toolkit.backbones.unet import encoding

        return encoding.places_of_words(word, prompt, self)

    def predict(
        self,
        latents: Tensor,
        timesteps: Tensor,
        encodings: Encodings,
        framings: Sequence[Framing] = (),
    ) -> Tensor:
        """What the U-Net says of (n, channels, h, w) noisy latents, in the same shape.

        timesteps: one, or (n,). encodings: n, under `heard_by_layer`. framings: one for each of
        the latents, or one for all; without any they are whole pictures.
        """
        rows, _, height, width = latents.shape
        pixels = self.pixels_per_latent
        own = list(framings) or [Framing.whole(width * pixels, height * pixels)]
        predicted: Tensor = self.unet(
            latents.to(self.dtype),
            timesteps,
            encodings.hidden,
            added_cond_kwargs=added_conditions(
                encodings.pooled, own if len(own) == rows else own * rows
            ),
        ).sample
        return predicted

    @contextmanager
    def changed(
        self, part: Part, changes: Mapping[str, MapChange], scale: float = 1.0
    ) -> Iterator[None]:
        """Let changes act on all that goes through a part, for the length of the block."""
        with self.lock:
            maps = maps_of(self.parts[part])
            whole = {
                path: placed(
                    [ready(change.scaled(scale), maps[path], self.dtype)], None, maps[path]
                )
                for path, change in changes.items()
            }
            with changes_applied(maps, whole):
                yield

    @contextmanager
    def changed_text(self, changes: Mapping[Part, Mapping[str, MapChange]]) -> Iterator[None]:
        """Let changes act on all that goes through the text encoders, for the block."""
        with ExitStack() as stack:
            for part, own in changes.items():
                stack.enter_context(self.changed(part, own))
            yield

    @contextmanager
    def inputs_watched(
        self, part: Part, paths: Iterable[str], see: Callable[[str, Tensor], None]
    ) -> Iterator[None]:
        """Show `see` what each of a part's maps is given, as (rows, in), at every call."""
        with self.lock, inputs_watched(self.parts[part], paths, see):
            yield

    @contextmanager
    def heard_by_layer(self, recorder: CrossAttentionMaps | None = None) -> Iterator[None]:
        """Let each attention layer hear its own encoding, for training and plain sampling.

        recorder: collects attention maps of passes with gradients. The block must span the backward
        pass too. Other threads that change the base wait for its end.
        """
        with self.lock, layerwise_cross_attention(self.unet, self.layers, recorder):
            yield

    @contextmanager
    def lora_injected(
        self, rank: int, generator: torch.Generator, ranks: Mapping[Place, int] | None = None
    ) -> Iterator[None]:
        """Put a trainable LoRA on attention's maps in all parts, and take it off at the end.

        ranks: of the places that have another rank.
        It starts at no change. The base's weights are not touched; other threads that change the
        base wait for the end.
        """
        maps = {Part.UNET: _UNET_MAPS} | {own.part: own.attention_maps for own in self.readers}
        networks = [(network, maps[part]) for part, network in self.parts.items()]
        patterns = {_MAPS_OF[place]: own for place, own in (ranks or {}).items()}
        with self.lock, injected(networks, rank, generator, patterns):
            yield

    def trained_maps(self) -> list[TrainedMap]:
        """The injected LoRA, map by map, in the order in which a prompt goes through the parts."""
        return [
            TrainedMap(_place_of(part, path), *halves)
            for part, network in self.parts.items()
            for path, halves in injected_halves(network).items()
        ]

    def learned_changes(self) -> dict[Part, dict[str, LowRank]]:
        """A copy of what the injected LoRA has learned, by part and path of the map."""
        return {part: learned(network) for part, network in self.parts.items()}

    def start_from(
        self, changes: Mapping[Part, Mapping[str, MapChange]], scale: float = 1.0
    ) -> None:
        """Start the injected LoRA from `changes`, by part and path; other maps from no change.

        Raises InputError when one fits no injected map.
        """
        for part, network in self.parts.items():
            start_from(network, changes.get(part, {}), scale)

    def noise_schedule(self) -> NoiseSchedule:
        """How latents are noised for training, and what `predict` should then say."""
        return NoiseSchedule(self.scheduler_config)

    def checkpoint_gradients(self) -> None:
        """Keep less of a forward pass for the backward one, which computes it again."""
        self.unet.enable_gradient_checkpointing()
        for reader in self.readers:
            reader.network.gradient_checkpointing_enable({"use_reentrant": False})
            reader.network.train()  # transformers wants it for this; CLIP has no dropout

    def decode(self, latents: Tensor) -> Tensor:
        """(n, channels, h, w) latents to (n, 3, height, width) pixels in 0..1, float32.

        Raises InputError for a base without an autoencoder.
        """
        if self.vae is None:
            raise InputError(f"base {self.name} has no autoencoder, so it cannot make pictures")
        with self.at_hand("vae"):
            return autoencoder.decode(self.vae, latents)

    def encode(self, pixels: Tensor) -> Tensor:
        """(n, 3, height, width) pixels in 0..1 to (n, channels, h, w) latents.

        For a KL autoencoder the mean of the posterior is taken.
        Raises InputError for a base without an autoencoder.
        """
        if self.vae is None:
            raise InputError(f"base {self.name} has no autoencoder, so it cannot read pictures")
        with self.at_hand("vae"):
            return autoencoder.encode(self.vae, pixels)
