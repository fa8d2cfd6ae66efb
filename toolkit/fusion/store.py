"""What a fusion has worked out already, kept on disk until it is done."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from toolkit.files import whole_file


@dataclass(frozen=True)
class Store:
    """A folder of tensors by name; what is there and whole is not made again."""

    folder: Path

    def tensors(self, name: str, make: Callable[[], Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """What `make` makes, or made in an earlier run."""
        self.file(name, make)
        return load_file(self._path(name))

    def file(self, name: str, make: Callable[[], Mapping[str, Tensor]]) -> "StoredFile":
        """The same, left on disk."""
        stored = StoredFile(self._path(name))
        if not stored.is_whole():
            made = {key: tensor.detach().cpu().contiguous() for key, tensor in make().items()}
            with whole_file(stored.path) as temporary:
                save_file(made, temporary)
        return stored

    def has(self, name: str) -> bool:
        """Whether an earlier run made it."""
        return StoredFile(self._path(name)).is_whole()

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.safetensors"


@dataclass(frozen=True)
class StoredFile:
    """A file of tensors that are read one by one."""

    path: Path

    def is_whole(self) -> bool:
        """Whether it is there, with all its bytes."""
        with suppress(SafetensorError, OSError), safe_open(self.path, framework="pt"):
            return True
        return False

    def __getitem__(self, name: str) -> Tensor:
        with safe_open(self.path, framework="pt") as file:
            return file.get_tensor(name)
