"""Files from the publishers' own hosts: over TLS that this host trusts, within limits, checked before use.

The host's CA bundle (SSL_CERT_FILE, else the system's) and its proxies (HTTPS_PROXY, NO_PROXY) are respected.
"""

import hashlib
import shutil
import ssl
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import certifi
import httpx

from delivery.errors import PlatformError
from delivery.lock import alone

CONNECT_LIMIT = 15.0  # seconds: a host that is not reached is found out soon
FILE_LIMIT = 600.0  # seconds for one file
SIZE_LIMIT = 300 << 20  # bytes: kubectl and cosign are the largest, with about a quarter of it


class NotFetched(PlatformError):
    """The host did not give the file. It may be had in another way."""


class WrongChecksum(PlatformError):
    """What came is not what is pinned. Nothing of it was kept."""


def text(url: str) -> str:
    """A small text, such as a list of checksums."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "text")
        download(url, file)
        return file.read_text(encoding="utf-8", errors="replace")


def download(url: str, file: Path, progress: Callable[[str], None] = lambda said: None) -> str:
    """Write what an https address gives into a file; its SHA-256. NotFetched says why it did not come."""
    digest, size, end = hashlib.sha256(), 0, time.monotonic() + FILE_LIMIT
    try:
        with (
            httpx.Client(
                verify=_trust(),
                follow_redirects=True,
                timeout=CONNECT_LIMIT,
                event_hooks={"request": [_only_with_tls]},
            ) as client,
            client.stream("GET", url, headers={"Accept-Encoding": "identity"}) as answer,
            file.open("wb") as target,
        ):
            if answer.status_code != httpx.codes.OK:
                raise _not_fetched(url, f"it answered {answer.status_code}")
            for chunk in answer.iter_raw():  # the checksum is of the bytes as they are published
                digest.update(chunk)
                size += target.write(chunk)
                if size > SIZE_LIMIT or time.monotonic() > end:
                    raise _not_fetched(url, f"{size >> 20} MiB came, and it did not end")
                progress(f"{size >> 20} MiB")
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        raise _not_fetched(url, " ".join(str(error).split())[:200] or type(error).__name__) from None
    return digest.hexdigest()


def program(
    name: str,
    url: str,
    checksum: str,
    target: Path,
    member: str = "",
    progress: Callable[[str], None] = lambda said: None,
) -> None:
    """Have a program at `target`: the file at `url`, or its `member` when that is an archive.

    Its SHA-256 is checked first; `target` is then there whole, or not at all.
    """
    shelf = target.parent.parent
    with alone(shelf / "lock", "another download on this machine", 2 * FILE_LIMIT):
        if target.exists():
            return
        for left in shelf.glob("tmp*"):
            shutil.rmtree(left)  # of a run that was killed
        with tempfile.TemporaryDirectory(dir=shelf) as folder:
            file = Path(folder, "file")
            came = download(url, file, progress)
            if came != checksum:
                raise WrongChecksum(
                    f"{name} from {url} has the checksum {came}, but {checksum} is pinned",
                    "nothing was kept; try another network, and ask why it changed before `make pin` takes it",
                )
            if member:
                file = _member(name, file, member, Path(folder, "member"))
            file.chmod(0o755)
            target.parent.mkdir(exist_ok=True)
            file.replace(target)


def _member(name: str, archive: Path, member: str, target: Path) -> Path:
    try:
        with tarfile.open(archive) as files:
            content = files.extractfile(member)
            if content is None:
                raise KeyError(member)
            with target.open("wb") as file:
                while chunk := content.read(1 << 20):
                    file.write(chunk)
    except (tarfile.TarError, KeyError, OSError, EOFError) as error:
        raise NotFetched(
            f"the archive with {name} has no {member} ({type(error).__name__})",
            "see `member` in scripts/local/versions.yaml",
        ) from None
    return target


def _only_with_tls(request: httpx.Request) -> None:
    if request.url.scheme != "https":
        raise httpx.UnsupportedProtocol(f"it leads to {request.url}, which has no TLS")


def _trust() -> ssl.SSLContext:
    context = ssl.create_default_context()
    if not any(Path(place).exists() for place in ssl.get_default_verify_paths()[:2] if place):
        context.load_verify_locations(certifi.where())  # a Python on macOS that knows no CA of the system
    return context


def _not_fetched(url: str, why: str) -> NotFetched:
    return NotFetched(f"cannot fetch {url}: {why}", "see this host's network, its proxy and its CA bundle")
