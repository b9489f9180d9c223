"""Who signs what, and with which key: the site says it, for the build, each environment, each gate, each approver."""

import os
from pathlib import Path

from delivery.context import Context
from delivery.desired import derived
from delivery.errors import PlatformError
from delivery.parts import cosign, openpgp
from delivery.site import CommitKey, Site

_OTHERS_READ = 0o077  # the bits of a file that let anybody but its owner in


def public(site: Site, name: str) -> Path:
    """The public key that verifies what `name` signed; PlatformError when it is not there."""
    file = site.signer(name).public
    if not file.is_file():
        raise PlatformError(f"the public key of {name} is missing: {file}", site.remedy("signers"))
    return file


def pem(file: Path, hint: str) -> str:
    """The text of a public key; PlatformError with this hint when the file holds none."""
    try:
        text = file.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise PlatformError(f"{file}: {error}", hint) from None
    if "BEGIN PUBLIC KEY" not in text:
        raise PlatformError(f"{file} holds no public key", hint)
    return text


def authorities(context: Context) -> dict[str, str]:
    """The public keys of those whose statements the cluster asks for, by the names that the policy gives them, as PEM.

    PlatformError when one is missing.
    """
    remedy = context.site.remedy("signers")
    asked = derived.authorities(context.pipeline)
    return {name: pem(public(context.site, by), remedy) for name, by in asked.items()}


def private(site: Site, name: str) -> cosign.Key:
    """What `name` signs with; PlatformError when it is not on this machine."""
    signer = site.signer(name)
    if signer.key is None:
        raise PlatformError(
            f"site {site.name} names no private key of {name}: somebody else signs as {name}",
            "ask whom it belongs to, or name a key that is yours under signers in pipeline.yaml",
        )
    for file in (signer.key, signer.password_file):
        if isinstance(file, Path):
            _insist_private(site, name, file)
    return cosign.Key(str(signer.key), signer.password_file, signer.password)


def commit_key(site: Site, name: str) -> str:
    """The OpenPGP key, armored, with which a gate signs commits; PlatformError when this machine cannot use it."""
    key = _commits(site, name).key
    if key is None:
        raise PlatformError(
            f"site {site.name} names no OpenPGP key of {name}: somebody else signs as {name}",
            "promote where that key is, or name it under signers in pipeline.yaml: commits",
        )
    if isinstance(key, Path):
        return _insist_private(site, name, key)
    variable = key.removeprefix("env://")
    if not (text := os.environ.get(variable)):
        raise PlatformError(f"the OpenPGP key of {name} is to be in {variable}, which is not set", "set it")
    return text


def commit_certificate(site: Site, name: str) -> str:
    """The OpenPGP certificate, armored, that verifies a gate's commits; PlatformError when it is not there."""
    file = _commits(site, name).public
    try:
        text = file.read_text(encoding="ascii")
        openpgp.signing_key_id(text)
    except FileNotFoundError:
        raise PlatformError(
            f"the OpenPGP certificate of {name} is missing: {file}", site.remedy("signers")
        ) from None
    except (OSError, ValueError) as error:
        raise PlatformError(
            f"{file} holds no OpenPGP certificate of {name}: {error}", site.remedy("signers")
        ) from None
    return text


def _commits(site: Site, name: str) -> CommitKey:
    found = site.signer(name).commits
    if found is None:
        raise PlatformError(
            f"site {site.name} names no OpenPGP key of {name}, which signs the commits that enter",
            site.remedy("signers"),
        )
    return found


def _insist_private(site: Site, name: str, file: Path) -> str:
    """The text of a file that holds a secret; PlatformError unless it is there, readable, and nobody else's."""
    try:
        if file.stat().st_mode & _OTHERS_READ:
            raise PlatformError(f"the key of {name} is readable by others: {file}", f"chmod 600 {file}")
        return file.read_text(encoding="ascii")
    except FileNotFoundError:
        raise PlatformError(
            f"the key of {name} is not on this machine: {file}", site.remedy("signers")
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise PlatformError(
            f"the key of {name} cannot be read: {file}: {error}", site.remedy("signers")
        ) from None
