"""Files that are there whole or not at all."""

import errno
import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from toolkit.errors import InputError, shortened

DISK_IS_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG}
"""What the system says when nothing more can be written, wherever."""

_UMASK = os.umask(0)
os.umask(_UMASK)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a temporary path to write to, and rename it to `path` when the block ends well.

    The temporary file lies in the same folder, so that the rename is atomic, and keeps the suffix,
    because image and tensor writers choose their format by it. It is removed when the block fails.
    The result has the rights of any new file, also where a writer keeps its own to itself, as
    safetensors does.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")
    try:
        yield temporary
        flushed(temporary).chmod(0o666 & ~_UMASK)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def flushed(path: Path) -> Path:
    """`path`, once its bytes are on the disk: a name given before that may outlive a power cut."""
    with path.open("rb") as written:
        os.fsync(written.fileno())
    return path


def from_home(path: str | Path) -> Path:
    """`path` with a `~` at its start as the home folder; as it is where there is no such home."""
    return Path(os.path.expanduser(path))


def from_anywhere(path: Path) -> str:
    """`path` as it is found from every working directory: below the home folder as `~/...`."""
    whole, home = path.resolve(), Path.home()
    return f"~/{whole.relative_to(home)}" if whole.is_relative_to(home) else str(whole)


def is_file_here(path: Path) -> bool:
    """Whether `path` is a file; a name that no file can have is none."""
    try:
        return path.is_file()
    except OSError:
        return False


def check_writable(folder: Path, key: str = "output_dir") -> None:
    """Raise InputError when no file can be made in `folder`, which need not be there yet.

    Nothing stays behind, and no folder is made: of several processes that look at once, each would
    find the other's. key: what the person typed to choose the folder, for the message.
    """
    try:
        above = next(part for part in (folder, *folder.parents) if part.exists())
        if not above.is_dir():
            raise InputError(
                f"{key}: cannot write to {shortened(str(above), 200)}: it is no folder"
            )
        with tempfile.TemporaryFile(dir=above):
            pass
    except OSError as error:
        where = shortened(str(error.filename or folder), 200)
        raise InputError(f"{key}: cannot write to {where}: {error.strerror}") from error


def sha256_of(path: Path) -> str:
    """The hex SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
