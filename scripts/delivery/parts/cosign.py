"""cosign with keys, offline: make a key pair, sign a statement, attach it to an image.

The attestation format is the older one (a DSSE envelope in the tag `sha256-….att`): policy-controller takes
keys only with that. The tag may be in another repository than the image. Passwords reach cosign by its environment,
never by an argument.
"""

import base64
import hashlib
import json
import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from delivery.errors import PlatformError
from delivery.parts import certificates, direct, programs
from delivery.site import ImageRepository

SECONDS = 60
_LEGACY = ("--new-bundle-format=false", "--use-signing-config=false", "--tlog-upload=false")


class CosignFailed(PlatformError):
    """cosign could not do what it was asked; nothing was attached."""


@dataclass(frozen=True)
class Key:
    """What somebody signs with: a key's file or its URI, and where its password is."""

    reference: str
    password_file: Path | None = None
    password_variable: str | None = None

    def password(self) -> str:
        """The password; empty where the key has none."""
        if self.password_file:
            return self.password_file.read_text(encoding="ascii")
        return os.environ.get(self.password_variable or "", "")


@dataclass(frozen=True)
class Envelope:
    """A signed statement, as it is stored: what was signed, and the whole that carries the signatures."""

    payload: bytes
    text: bytes
    kind: str  # of the payload
    signatures: tuple[str, ...]  # in base64

    @property
    def hash(self) -> str:
        """The sha256 of what was signed, by which entries and the ledger name it."""
        return hashlib.sha256(self.payload).hexdigest()

    def same(self, other: "Envelope") -> bool:
        """Whether it is the same statement with the same signatures, however it is written down."""
        return self.payload == other.payload and sorted(self.signatures) == sorted(other.signatures)


def envelope(text: bytes) -> Envelope:
    """Read a DSSE envelope; ValueError says why it is none."""
    try:
        data = json.loads(text)
        payload = base64.b64decode(data["payload"], validate=True)
        signatures = tuple(str(one["sig"]) for one in data["signatures"])
        kind = str(data["payloadType"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"is not a whole DSSE envelope ({type(error).__name__})") from None
    if not signatures:
        raise ValueError("carries no signature")
    return Envelope(payload, text, kind, signatures)


def generate(prefix: Path, password: str) -> None:
    """Make PREFIX.key and PREFIX.pub."""
    _run(["generate-key-pair", "--output-key-prefix", str(prefix)], password=password)


def sign(statement: bytes, key: Key) -> Envelope:
    """Sign an in-toto statement as it is, byte for byte."""
    with tempfile.TemporaryDirectory(prefix="delivery-sign-") as folder:
        source, target = Path(folder, "statement.json"), Path(folder, "envelope.json")
        source.write_bytes(statement)
        command = ["attest-blob", *_LEGACY, "--yes", "--key", key.reference, "--statement", str(source)]
        _run([*command, "--output-signature", str(target)], password=key.password())
        return envelope(target.read_bytes())


def attach(image: ImageRepository, place: ImageRepository, digest: str, signed: Envelope) -> None:
    """Add a signed statement about an image to those in `place`, with the login of that."""
    # cosign speaks plain HTTP with some hosts unasked (localhost, private addresses), where nothing answers to TLS.
    where = ["--allow-http-registry"] if image.plain_http else []
    settings = {"COSIGN_REPOSITORY": place.here}
    if place.docker_config:
        settings["DOCKER_CONFIG"] = str(place.docker_config)
    with (
        tempfile.NamedTemporaryFile(prefix="delivery-attach-") as file,
        certificates.with_system(image.ca) as authorities,
    ):
        file.write(signed.text)
        file.flush()
        if image.ca:  # in place of the system's, so the file has both
            where += ["--registry-cacert", str(authorities)]
        _run(["attach", "attestation", "--attestation", file.name, *where, image.at(digest)], settings)


def _run(arguments: list[str], settings: dict[str, str] | None = None, *, password: str = "") -> None:
    environment = os.environ | direct.environment() | {"COSIGN_PASSWORD": password} | (settings or {})
    try:
        done = subprocess.run(
            [str(programs.path("cosign")), *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
    except FileNotFoundError:
        raise PlatformError("cosign is not there", "fetch it: delivery up") from None
    except subprocess.TimeoutExpired:
        raise CosignFailed(f"cosign {arguments[0]} did not end within {SECONDS} s", "run it again") from None
    if done.returncode:
        raise CosignFailed(
            f"cosign {arguments[0]}: {_reason(done.stderr)}",
            "does the registry answer, and take the login? is the key the one of its password?",
        )


def _reason(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    said = [line.removeprefix("Error: ") for line in lines if line.startswith("Error: ")]
    return (said or lines or ["it said nothing"])[-1][:300]
