"""The modes of what the app keeps: for its owner alone, as other accounts of this machine may read
what is open to them."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

FOLDERS = ("backups", "adapters", "tmp", "window")


def make_private(data: Path) -> None:
    """Files 0600 and folders 0700, also those that an earlier version left open. Links are left as
    they are, and so is the data folder itself, which may hold other things, and what cannot be
    changed."""
    for path in _kept(data):
        wanted = 0o700 if path.is_dir() else 0o600
        with suppress(OSError):
            if path.stat().st_mode & 0o777 & ~wanted:
                path.chmod(wanted)


def _kept(data: Path) -> Iterator[Path]:
    found = [*data.glob("feedback.db*"), *(data / name for name in FOLDERS)]
    for path in found:
        if path.exists() and not path.is_symlink():
            yield path
            for inner in path.rglob("*") if path.is_dir() else ():
                if inner.exists() and not inner.is_symlink():
                    yield inner
