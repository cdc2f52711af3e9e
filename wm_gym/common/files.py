"""How is a file or a folder written so that nobody ever reads half of one? Beside its place, then put there.

What is being written lies in the folder `.NAME.writing-PID-N` beside NAME, locked by its process. A kill leaves it
there; whoever writes NAME next clears what dead processes left, and nothing of those that live.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import hashlib
import itertools
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

T = TypeVar("T")
_COUNT = itertools.count()
AT_FDCWD, RENAME_EXCHANGE = -100, 2  # of Linux
FULL = 2**20  # bytes: a disk with less is full
CLOCKS = 60  # seconds that the clock may have been set while a process ran


@contextlib.contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """A new folder to fill, of the same name; at the end of the block it is at `path`, in the place of what was there.

    After a kill at any moment the old one or the new one is there, whole (`recover`); an error leaves the old one.
    """
    path = Path(os.path.realpath(path))
    with _beside(path) as folder:
        (folder / path.name).mkdir()
        yield folder / path.name
        put(folder / path.name, path)


@contextlib.contextmanager
def atomic_file(path: str | Path) -> Iterator[Path]:
    """Where to write a file, of the same name; at the end of the block it is at `path`, in the place of what was there.

    After a kill at any moment the old one or the new one is there, whole; an error leaves the old one.
    """
    path = Path(path)
    with _beside(path) as folder:
        yield folder / path.name
        (folder / path.name).replace(path)


def put(new: Path, path: Path) -> None:
    """Move the folder `new` to `path`; what was there is gone then, or at `new` for the caller to remove."""
    if not os.path.lexists(path):
        new.rename(path)
    elif not _exchange(new, path):
        lock, old = try_lock(path), _name(path, "old")
        try:
            path.rename(old)  # after a kill from here on `recover` puts it back
            new.rename(path)
            old.rename(new)
        finally:
            if lock is not None:
                os.close(lock)


def recover(path: str | Path) -> Path:
    """`path`; where it is missing, what a process that died while it replaced it had moved aside is put back."""
    path = Path(path)
    if not os.path.lexists(path):
        for old in _scraps(path):
            if ".old-" in old.name and not _in_use(old):
                with contextlib.suppress(OSError):  # a medium that cannot be written to, or somebody was faster
                    old.rename(path)
                break
    return path


def unchanged(folder: Path, load: Callable[[Path], T]) -> T:
    """The result of `load` on a folder, never of half of it and half of another that takes its place meanwhile."""
    while True:
        with _held(folder) as is_there:
            try:
                made = load(folder)
            except (OSError, ValueError):
                if is_there():
                    raise
            else:
                if is_there():
                    return made


@contextlib.contextmanager
def locked(folder: Path, what: str) -> Iterator[None]:
    """Hold a folder, made where it is missing, for this block alone; ValueError where another process `what` it now.

    The lock is the kernel's: it goes with its process, however that ends. What is empty afterwards is removed.
    """
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock = try_lock(folder)
        except FileNotFoundError:
            continue
        if lock is None:
            raise ValueError(
                f"another process {what} {folder} at this moment; wait for it, end it, or choose another folder (--out)"
            )
        if _inode(folder) == os.fstat(lock).st_ino:
            break
        os.close(lock)  # it was renamed or removed before it was ours
    try:
        yield
    finally:
        if _inode(folder) == os.fstat(lock).st_ino:
            with contextlib.suppress(OSError):
                folder.rmdir()
        os.close(lock)


def check_free(out: Path, overwrite: bool = False, mark: str = "", otherwise: str = "") -> None:
    """FileExistsError where `out` is there, unless it is a folder with the file `mark` and is to be replaced.

    otherwise: what to say of a folder without that file.
    """
    replaceable = bool(mark) and (out / mark).is_file()
    if out.exists() and not (overwrite and replaceable):
        hint = ", or pass --overwrite" if replaceable else otherwise
        raise FileExistsError(f"{out} is there; choose another --out{hint}")


def clear(folder: Path) -> None:
    """Remove what a folder holds, and not the folder, so that a lock on it stays one."""
    for path in folder.iterdir():
        _remove(path)


def reserve(path: Path) -> None:
    """Allocate a file that is all holes, so that a full disk is an error now, and not a bus error in a memory map."""
    with path.open("r+b") as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)


def digest(files: Iterable[Path]) -> str:
    """A digest of the content of files, 16 hexadecimal digits."""
    made = hashlib.sha256()
    for file in files:
        made.update(file.read_bytes())
    return made.hexdigest()[:16]


def check_same(
    note: Path,
    asked: dict[str, Any],
    again: str,
    since: Collection[str] = (),
    renamed: Callable[[Any], Any] = lambda before: before,
) -> None:
    """Write down the arguments of a run, or refuse to go on with what was made for others.

    Args:
        note: The JSON file that keeps them.
        asked: The arguments.
        again: What to do where they differ, for the error.
        since: Keys that older versions did not write down; they are taken to be the same then.
        renamed: Gives what older versions wrote down today's names.

    Raises:
        ValueError: Where they differ; it names how.
    """
    asked = json.loads(json_text(asked))
    if note.is_file():
        try:
            before = {key: asked[key] for key in since if key in asked} | renamed(json.loads(note.read_text()))
        except (ValueError, TypeError) as error:
            raise ValueError(f"{note} is damaged ({error}); {again}") from None
        if other := sorted(key for key in before.keys() | asked.keys() if before.get(key) != asked.get(key)):
            raise ValueError(
                f"{note.parent} was begun with other arguments: "
                + "; ".join(f"{key} {_short(before.get(key))}, now {_short(asked.get(key))}" for key in other)
                + f"; {again}"
            )
    write_json(note, asked, indent=1)


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) < 80 else f"{text[:76]} ..."


def copy_beside(source: Path, target: Path) -> None:
    """Copy a file or folder that nobody will write into, as a second name where that is possible."""
    if source.is_dir() and not source.is_symlink():
        shutil.copytree(source, target, symlinks=True, copy_function=_link)
    else:
        _link(source, target)


def _link(source: str | Path, target: str | Path) -> None:
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        shutil.copy2(source, target, follow_symlinks=False)


@contextlib.contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """A locked folder beside `path`, gone afterwards; OSError names `path` where the disk is full."""
    path.parent.mkdir(parents=True, exist_ok=True)
    recover(path)
    for scrap in _scraps(path):
        if not _in_use(scrap):
            _remove(scrap)
    new, lock = _name(path, "writing"), None
    new.mkdir()
    try:
        lock = try_lock(new)
        with full_disk_named(path):
            yield new
    finally:
        _remove(new)
        if lock is not None:
            os.close(lock)


@contextlib.contextmanager
def full_disk_named(path: Path) -> Iterator[None]:
    """Raise OSError with `path` where what is written in this block fails for want of space, whoever writes it."""
    try:
        yield
    except Exception as error:
        if _full(path.parent, error):
            raise OSError(
                errno.ENOSPC, "no space left on the disk; free some and run the same again", str(path)
            ) from error
        raise


def _full(folder: Path, error: Exception) -> bool:
    """Whether an error came because the disk of a folder is full; libraries have many words for it."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    if isinstance(error, (ValueError, TypeError, LookupError)):
        return False
    with contextlib.suppress(OSError):
        return shutil.disk_usage(folder).free < FULL
    return False


def _name(path: Path, what: str) -> Path:
    return path.with_name(f".{path.name}.{what}-{os.getpid()}-{next(_COUNT)}")


@contextlib.contextmanager
def _held(path: Path) -> Iterator[Callable[[], bool]]:
    """Gives a function: is what is at `path` still the same? Held open, so that no other one gets its number."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        yield lambda: not path.exists()
        return
    try:
        yield lambda: _inode(path) == os.fstat(descriptor).st_ino
    finally:
        os.close(descriptor)


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except OSError:
        return None


def is_scrap(path: Path) -> bool:
    """Whether it is what a process that died was writing."""
    return re.fullmatch(r"\..+\.(writing|partial|old)-\d+(-\d+)?", path.name) is not None and not _in_use(path)


def _scraps(path: Path) -> list[Path]:
    """What is, or was, being written for `path`; those of versions before 0.3 as well."""
    pattern = re.compile(rf"\.{re.escape(path.name)}\.(?:(?:writing|partial|old)-)?\d+(?:-\d+)?")
    try:
        with os.scandir(path.parent) as entries:
            return [path.with_name(entry.name) for entry in entries if pattern.fullmatch(entry.name)]
    except OSError:
        return []


def _in_use(scrap: Path) -> bool:
    """Whether the process that makes a scrap lives: it holds the lock, or has the number and had begun by then."""
    lock = None
    try:
        lock, changed = try_lock(scrap), scrap.stat().st_mtime
    except OSError:
        return False  # gone
    if lock is None:
        return True
    os.close(lock)
    numbers = re.findall(r"\d+", scrap.name.rpartition(".")[2])  # PID or PID-N
    pid = int(numbers[0])
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        pass  # another user's
    begun = _begun(pid)
    return begun is None or begun < changed + CLOCKS


def _begun(pid: int) -> float | None:
    """When a process began, in seconds since 1970; None where the system does not say."""
    try:
        ticks = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
        up = float(Path("/proc/uptime").read_text().split()[0])
        return time.time() - up + ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return None


def try_lock(path: Path) -> int | None:
    """A descriptor that holds the lock of a file or folder; None where another one does. OSError where it is gone.

    Where the file system knows no locks it is as if it were held.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except OSError:
        pass
    return descriptor


def _exchange(one: Path, other: Path) -> bool:
    """Let two folders change places at one stroke; False, and nothing done, where the system cannot."""
    call = getattr(ctypes.CDLL(None), "renameat2", None)
    return call is not None and call(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), RENAME_EXCHANGE) == 0


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()


def write_bytes(path: str | Path, data: bytes) -> None:
    """Write a file. Makes the folder where it is not there; leaves nothing where the disk is full."""
    with atomic_file(path) as beside:
        beside.write_bytes(data)


def write_text(path: str | Path, text: str) -> None:
    """Write a text file in UTF-8, line ends as they are."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: str | Path, value: Any, indent: int | None = None) -> None:
    """Write `value` as JSON; numpy arrays and numbers become plain ones. Makes the folder where it is not there."""
    write_text(path, json_text(value, indent) + "\n")


def json_text(value: Any, indent: int | None = None) -> str:
    """`value` as JSON; numpy arrays and numbers become plain ones. TypeError names what JSON cannot write."""
    return json.dumps(value, indent=indent, default=_plain)


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} {value!r} cannot be written as JSON")
