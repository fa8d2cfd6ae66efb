"""What a backbone is asked to encode, and how regions are to attend: the same for every family."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from toolkit.backbones.map_change import MapChange
from toolkit.backbones.unet.names import Part
from toolkit.layout.layout import Region
from toolkit.layout.strength import Strength


class Change(Protocol):
    """What one learned concept changes of a base; `toolkit.concept.Concept` is one."""

    @property
    def name(self) -> str: ...
    @property
    def placeholder(self) -> str: ...
    @property
    def token_names(self) -> tuple[str, ...]: ...
    @property
    def trigger_words(self) -> str: ...
    @property
    def class_word(self) -> str: ...
    @property
    def token_embeddings(self) -> Mapping[Part, Tensor]: ...
    @property
    def changes(self) -> Mapping[Part, Mapping[str, MapChange]]: ...
    @property
    def scale(self) -> float: ...


@dataclass(frozen=True)
class Subject:
    """A word of a prompt that is to be read as a concept (Cones 2).

    word: the nth subject of one word is its nth mention. residual: (tokens of the word, dim), what
    is added to its encoding. region: where layout guidance draws it to; None: nowhere.
    """

    word: str
    residual: Tensor
    region: Region | None = None


@dataclass(frozen=True)
class Prompt:
    """A prompt with all placeholders written out, and the concept whose change encodes it.

    change: None has the base alone read it. strength: of the change, in the text encoder and
    wherever else it acts. The text encoder reads a prompt once, so of a schedule it takes the
    largest.
    """

    text: str
    negative: str = ""
    change: Change | None = None
    strength: Strength = 1.0
    subjects: tuple[Subject, ...] = ()


@dataclass(frozen=True)
class Regional:
    """How the regions of a canvas attend; the defaults are LoRA-Composer's as published.

    injection: each box hears its own prompt, changed by its own concept (eqs. 2, 3).
    isolation: a box's queries do not attend to another box's keys (concept region mask).
    self_attention: a concept's changes of self-attention, and of all that no attention-only LoRA
        changes (convolutions, norms, the timestep's part), act in its box too.
    queries: those of cross-attention's queries do.
    word_bias: added in a box to the scores of its concept's own words.
    subject_bias: added outside the boxes to the scores of the subjects' class words.
    steering: of layout guidance, what a subject's word weighs in its region, and elsewhere; None
        is none.
    """

    injection: bool = True
    isolation: bool = True
    self_attention: bool = False
    queries: bool = False
    word_bias: float = 0.0
    subject_bias: float = 0.0
    steering: tuple[float, float] | None = None
