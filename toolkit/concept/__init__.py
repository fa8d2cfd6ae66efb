"""What one learned concept is: in memory, on disk, and in other programs' formats.

Each name is loaded when it is first asked for: where a concept is kept is told without torch.
"""

from typing import TYPE_CHECKING

from toolkit.lazy import loader

if TYPE_CHECKING:
    from toolkit.backbones.low_rank import LowRank as LowRank
    from toolkit.concept.concept import Concept as Concept
    from toolkit.concept.file import load_concept as load_concept
    from toolkit.concept.file import save_concept as save_concept

_NAMES = {
    "toolkit.backbones.low_rank": ("LowRank",),
    "toolkit.concept.concept": ("Concept",),
    "toolkit.concept.file": ("load_concept", "save_concept"),
}

__all__ = sorted(name for held in _NAMES.values() for name in held)
__getattr__ = loader(__name__, _NAMES)
