"""One learned concept in memory."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from torch import Tensor

from toolkit.backbones import Backbone, Part
from toolkit.backbones.families import two_text_encoders
from toolkit.backbones.low_rank import LowRank
from toolkit.backbones.map_change import MapChange
from toolkit.concept.stored import CONES2, ED_LORA
from toolkit.errors import InputError


@dataclass(frozen=True)
class Concept:
    """An ED-LoRA: layer-wise token embeddings and low-rank changes of attention's linear maps.

    Or what others train: changes of any map, of any kind.

    Or what Cones 2 learns: a residual, and none of those.

    embeddings: (tokens, layers, width) for the base's text encoder; tokens may be 0 for a plain
        LoRA. embeddings_2: those for a second text encoder; None for a base without one.
    token_names: the words that stand for the tokens in a prompt, such as <dog1>, <dog2>.
    trigger_words: what `<name>` becomes in a prompt when there are no tokens.
    unet, text_encoder, text_encoder_2: changes of these parts of a base, by path of the map.
    scale: what the changes are multiplied with.
    architecture, weights: fingerprints of the base it was learned on; empty when unknown.
    training: the settings it was trained with, for the record.
    images: the folder it was trained from; empty when unknown.
    residual: (tokens of the class word, dim), what Cones 2 adds to the class word's encoding.
    """

    name: str
    embeddings: Tensor
    token_names: tuple[str, ...]
    unet: Mapping[str, MapChange]
    text_encoder: Mapping[str, MapChange]
    text_encoder_2: Mapping[str, MapChange] = field(default_factory=dict)
    embeddings_2: Tensor | None = None
    class_word: str = ""
    trigger_words: str = ""
    scale: float = 1.0
    base_name: str = ""
    architecture: str = ""
    weights: str = ""
    training: Mapping[str, str] = field(default_factory=dict)
    images: str = ""
    residual: Tensor | None = None

    def __post_init__(self) -> None:
        for embeddings in self.token_embeddings.values():
            if embeddings.ndim != 3 or len(embeddings) != len(self.token_names):
                raise InputError(
                    f"concept {self.name}: embeddings of shape {tuple(embeddings.shape)} "
                    f"do not fit {len(self.token_names)} tokens"
                )
        if self.residual is not None and (self.residual.ndim != 2 or not self.class_word):
            raise InputError(
                f"concept {self.name}: a residual of shape {tuple(self.residual.shape)} for the "
                f"class word {self.class_word!r}: expected (tokens, width), and a word"
            )

    @property
    def recipe(self) -> str:
        """How it was learned, as `toolkit train recipe=` has it."""
        return ED_LORA if self.residual is None else CONES2

    @property
    def placeholder(self) -> str:
        """The word that people write for this concept: <dog>."""
        return f"<{self.name}>"

    @property
    def changes(self) -> dict[Part, Mapping[str, MapChange]]:
        """All its changes, by the part of the base that they change."""
        return {
            Part.UNET: self.unet,
            Part.TEXT_ENCODER: self.text_encoder,
            Part.TEXT_ENCODER_2: self.text_encoder_2,
        }

    @property
    def token_embeddings(self) -> dict[Part, Tensor]:
        """Its tokens' embeddings, (tokens, layers, width), by the text encoder that reads them."""
        first = {Part.TEXT_ENCODER: self.embeddings}
        return (
            first if self.embeddings_2 is None else first | {Part.TEXT_ENCODER_2: self.embeddings_2}
        )

    def with_changes(self, changes: Mapping[Part, Mapping[str, MapChange]]) -> "Concept":
        """This concept with these changes, and none of a part that is not among them."""
        return replace(
            self,
            unet=changes.get(Part.UNET, {}),
            text_encoder=changes.get(Part.TEXT_ENCODER, {}),
            text_encoder_2=changes.get(Part.TEXT_ENCODER_2, {}),
        )

    def with_tokens(
        self, token_names: tuple[str, ...], embeddings: Mapping[Part, Tensor]
    ) -> "Concept":
        """This concept with these tokens, and their embeddings for each text encoder."""
        return replace(
            self,
            token_names=token_names,
            embeddings=embeddings[Part.TEXT_ENCODER],
            embeddings_2=embeddings.get(Part.TEXT_ENCODER_2),
        )

    @property
    def rank(self) -> int:
        """The largest rank among its changes; 0 where none is made of products."""
        every = [change for changes in self.changes.values() for change in changes.values()]
        return max((change.rank for change in every), default=0)

    @property
    def call(self) -> str:
        """What calls it in a prompt: its tokens, or its trigger words."""
        return " ".join(self.token_names) or self.trigger_words

    @property
    def described_tokens(self) -> dict[str, str]:
        """For each token what says it without the concept: the last is the class word."""
        return dict.fromkeys(self.token_names, "") | {
            token: self.class_word for token in self.token_names[-1:]
        }

    def expand(self, prompt: str) -> str:
        """`prompt` with <name> written out as the concept's tokens, or its trigger words."""
        return written_out(prompt, {self.placeholder: self.call})

    def describe(self, prompt: str) -> str:
        """`prompt` with the class word in place of <name>, for a model that lacks the concept."""
        said = self.described_tokens | {self.placeholder: self.class_word}
        return " ".join(written_out(prompt, said).split())

    def check_recipe(self, recipe: str) -> None:
        """Raise InputError where a method that needs concepts of `recipe` cannot use this one."""
        if self.recipe != recipe:
            raise InputError(
                f"concept {self.name} is of recipe={self.recipe}, and this method draws those of "
                f"recipe={recipe}: toolkit train recipe={recipe} learns one"
            )

    def check_fits(self, base: Backbone) -> None:
        """Raise InputError, saying which base it was made for, if its shapes do not fit `base`."""
        if self.architecture and self.architecture != base.architecture:
            raise InputError(
                f"concept {self.name} was trained on {self.base_name or 'another base'}, whose "
                f"architecture differs from that of {base.name}: train it again on {base.name}"
            )
        if self.token_names:
            shapes = {
                part: (own.shape[1], own.shape[2]) for part, own in self.token_embeddings.items()
            }
            if shapes != base.embedding_shapes:
                raise InputError(
                    f"concept {self.name} has embeddings for (layers, width) {_said(shapes)}, but "
                    f"{base.name} needs {_said(base.embedding_shapes)}"
                )
        if self.residual is not None:
            self._check_residual(self.residual, base)
        for part, changes in self.changes.items():
            maps = base.weight_shapes(part) if changes else {}
            for path, change in changes.items():
                if path not in maps:
                    raise InputError(
                        f"concept {self.name}: {base.name} has no {part.said} map {path}"
                    )
                if not change.fits(maps[path]):
                    shape = f" is {change.shape}," if isinstance(change, LowRank) else " is not"
                    raise InputError(
                        f"concept {self.name} was made for another base than {base.name}: its "
                        f"{part.said} map {path}{shape} the base's {maps[path]}"
                    )

    def _check_residual(self, residual: Tensor, base: Backbone) -> None:
        if len(base.embedding_shapes) > 1:
            raise two_text_encoders(base.name)
        _, width = base.embedding_shapes[Part.TEXT_ENCODER]
        if residual.shape[1] != width:
            raise InputError(
                f"concept {self.name} has a residual of width {residual.shape[1]}, but "
                f"{base.name} needs {width}"
            )


def _said(shapes: Mapping[Part, tuple[int, int]]) -> str:
    return " and ".join(map(str, shapes.values()))


def written_out(prompt: str, said: Mapping[str, str]) -> str:
    """`prompt` with every key of `said` replaced in one pass, the longest that fits first.

    What is put in is not read again, so a concept's token may be called as another concept is.
    """
    if not said:
        return prompt
    longest_first = sorted(said, key=len, reverse=True)
    pattern = "|".join(re.escape(key) for key in longest_first)
    return re.sub(pattern, lambda match: said[match[0]], prompt)


def tokens_of(name: str, count: int) -> tuple[str, ...]:
    """The words of a concept's tokens: <name1>, <name2>, ..."""
    return tuple(f"<{name}{number}>" for number in range(1, count + 1))
