"""Layouts of plain boxes, for methods that know nothing else."""

from toolkit.errors import InputError
from toolkit.layout.layout import Layout


def check_boxes(layout: Layout, method: str) -> None:
    """Raise InputError, at its region, for what is more than a box: a mask, a soft edge, a depth.

    method: its name, for the message.
    """
    for number, region in enumerate(layout.regions):
        for key in ("mask", "polygon", "feather", "depth"):
            if getattr(region, key):
                raise InputError(
                    f"layout {layout.name}, region {number + 1}: method={method} knows boxes only, "
                    f"and this region has {key}",
                    f"regions[{number}].{key}",
                )
