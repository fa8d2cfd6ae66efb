"""How many passes of its denoising network a base has made."""

from dataclasses import dataclass


@dataclass
class PassCount:
    """Passes since the base was loaded, each of one picture and one side of guidance.

    denoising: whole passes. guidance: passes that end at the last attention map that is read.
    """

    denoising: int = 0
    guidance: int = 0

    def copy(self) -> "PassCount":
        """The count as it is now."""
        return PassCount(self.denoising, self.guidance)

    def since(self, before: "PassCount") -> "PassCount":
        """What has been made since `before` was copied."""
        return PassCount(self.denoising - before.denoising, self.guidance - before.guidance)
