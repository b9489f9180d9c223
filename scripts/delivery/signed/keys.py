"""Who signs what, and with which key: the site says it, for the build, each environment, each approver."""

from pathlib import Path

from delivery.errors import PlatformError
from delivery.parts import cosign
from delivery.site import Site


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


def private(site: Site, name: str) -> cosign.Key:
    """What `name` signs with; PlatformError when it is not on this machine."""
    signer = site.signer(name)
    if signer.key is None:
        raise PlatformError(
            f"site {site.name} names no private key of {name}: somebody else signs as {name}",
            "ask whom it belongs to, or name a key that is yours under signers in pipeline.yaml",
        )
    for file in (signer.key, signer.password_file):
        if isinstance(file, Path) and not file.is_file():
            raise PlatformError(f"the key of {name} is not on this machine: {file}", site.remedy("signers"))
    return cosign.Key(str(signer.key), signer.password_file, signer.password)
