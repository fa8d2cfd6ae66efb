"""What one learned concept is: in memory, on disk, and in other programs' formats."""

from toolkit.backbones.low_rank import LowRank
from toolkit.concept.concept import Concept
from toolkit.concept.file import load_concept, save_concept

__all__ = ["Concept", "LowRank", "load_concept", "save_concept"]
