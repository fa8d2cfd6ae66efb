"""Concepts by name, read when they are first needed."""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from toolkit.concept.concept import Concept


class ConceptCache(Mapping[str, Concept]):
    """Reads each concept's file when it is asked for, and keeps the last few that were."""

    def __init__(
        self, files: Mapping[str, Path], read: Callable[[str, Path], Concept], room: int = 32
    ) -> None:
        """files: by concept. read: makes a concept of both. room: how many stay in memory."""
        self._files = dict(files)
        self._read = read
        self._room = room
        self._held: OrderedDict[str, Concept] = OrderedDict()

    def __getitem__(self, name: str) -> Concept:
        """The concept. Raises KeyError for an unknown name, InputError for a damaged file."""
        if name not in self._held:
            self._held[name] = self._read(name, self._files[name])
        self._held.move_to_end(name)
        while len(self._held) > self._room:
            self._held.popitem(last=False)
        return self._held[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)
