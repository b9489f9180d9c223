"""The checksums that publishers write down for their programs, and how far each can be believed.

Where a publisher signs its list or its programs, the signature is checked against the signer that
scripts/local/versions.yaml names; where it does not, TLS to its host is all there is, and that is said.
"""

import re
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from delivery.errors import PlatformError
from local import fetch
from local.platforms import KNOWN, Platform
from local.released import Signed, Tool
from local.shell import run


class NotBelieved(PlatformError):
    """A list does not name the program, or a signature does not hold."""


@dataclass(frozen=True)
class Checksums:
    """The SHA-256 of a tool's release for each platform, and by what they are believed."""

    of: dict[Platform, str]
    by: str


@dataclass(frozen=True)
class Checker:
    """What signatures are checked with: cosign, and the folder of a Go module's files."""

    cosign: Callable[[], Path]
    module: Callable[[str], Path]


def checksums(tool: Tool, checker: Checker, progress: Callable[[str], None] = lambda _: None) -> Checksums:
    """Read and check a tool's checksums for every platform; fetch.NotFetched or NotBelieved says why not."""
    found, by = {}, ""
    for platform in KNOWN:
        progress(str(platform))
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "list")
            fetch.download(tool.at(tool.list, platform), file)
            name = tool.at(tool.url, platform).rpartition("/")[2]
            found[platform] = listed(file.read_text(encoding="utf-8", errors="replace"), name)
            by = _believed(tool, platform, found[platform], file, checker)
    return Checksums(found, by)


def listed(text: str, name: str) -> str:
    """The checksum of a file in a list (`CHECKSUM  NAME` a line, or one checksum alone)."""
    lines = [line.split() for line in text.splitlines() if line.strip()]
    for checksum, *names in lines:
        alone = len(lines) == 1 and not names
        named = bool(names) and names[-1].lstrip("*").rpartition("/")[2] == name
        if re.fullmatch(r"[0-9a-f]{64}", checksum) and (alone or named):
            return checksum
    raise NotBelieved(
        f"the publisher's list has no checksum of {name}", "see `list` in scripts/local/versions.yaml"
    )


def _believed(tool: Tool, platform: Platform, checksum: str, file: Path, checker: Checker) -> str:
    signed = tool.signed
    if signed is None:
        return "TLS alone: its publisher signs nothing"
    folder = file.parent
    if signed.pgp:
        signature = folder / "asc"
        fetch.download(tool.at(signed.pgp, platform), signature)
        return _by_pgp(tool, file, signature, checker.module(tool.module) / signed.keys)
    if signed.bundle:
        bundle = folder / "bundle"
        fetch.download(tool.at(signed.bundle, platform), bundle)
        _by_cosign(tool, signed, checker, file, "--bundle", bundle)
        return f"the list's signature by {signed.by}"
    # The program itself is signed, not its list: it has to be here, and to be the one that is listed.
    program, signature, certificate = folder / "program", folder / "sig", folder / "cert"
    if (came := fetch.download(tool.at(signed.program, platform), program)) != checksum:
        raise NotBelieved(
            f"{tool.name} for {platform} has the checksum {came}, but its list says {checksum}",
            "try again later: its publisher may be about to change it",
        )
    fetch.download(f"{tool.at(signed.program, platform)}.sig", signature)
    fetch.download(f"{tool.at(signed.program, platform)}.cert", certificate)
    with_certificate = ("--signature", signature, "--certificate", certificate)
    _by_cosign(tool, signed, checker, program, *with_certificate)
    return f"each program's signature by {signed.by}"


def _by_cosign(tool: Tool, signed: Signed, checker: Checker, file: Path, *proof: str | Path) -> None:
    signer = (f"--certificate-identity={signed.by}", f"--certificate-oidc-issuer={signed.issuer}")
    hint = f"see `signed` of {tool.name} in scripts/local/versions.yaml; what it says of the signer must hold"
    try:
        run([checker.cosign(), "verify-blob", *proof, *signer, file], hint=hint)
    except PlatformError as error:
        raise NotBelieved(
            f"{tool.name} {tool.version} is not believed: {error.message}", error.hint
        ) from None


def _by_pgp(tool: Tool, file: Path, signature: Path, keys: Path) -> str:
    gpg = shutil.which("gpg")
    if gpg is None:
        return "TLS alone: gpg is not on PATH, which could check its publisher's PGP signature"
    hint = f"see `signed` of {tool.name} in scripts/local/versions.yaml, and who signed this release"
    with tempfile.TemporaryDirectory() as home:
        command = [gpg, "--homedir", home, "--batch", "--no-autostart", "--status-fd=1"]
        run([*command, "--import", keys], hint=hint)
        try:
            said = run([*command, "--verify", signature, file], hint=hint)
        except PlatformError as error:
            raise NotBelieved(
                f"{tool.name} {tool.version} is not believed: {error.message}", error.hint
            ) from None
    good = re.search(r"^\[GNUPG:\] GOODSIG \S+ (.*)$", said, re.M)
    if not good or not re.search(r"^\[GNUPG:\] VALIDSIG ", said, re.M):
        raise NotBelieved(f"{tool.name} {tool.version} is not signed by a key that still holds", hint)
    return f"the list's PGP signature by {good[1]}"
