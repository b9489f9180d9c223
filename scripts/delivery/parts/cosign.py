"""cosign with keys, offline: make a key pair, sign a statement, attach it to an image, verify what is there.

The attestation format is the older one (a DSSE envelope in the tag `sha256-….att`): policy-controller takes
keys only with that. Passwords reach cosign by its environment, never by an argument.
"""

import base64
import json
import os
import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from delivery.errors import PlatformError
from delivery.parts import certificates, direct, programs
from delivery.site import ImageRepository

SECONDS = 60
# What cosign says when it is the registry that it could not ask: not a word about signatures.
_NOT_REACHED = re.compile(
    r"x509|tls: |UNAUTHORIZED|DENIED|dial tcp|lookup |connection re|deadline|\b[45]\d\d\b [A-Z]"
)
_LEGACY = ("--new-bundle-format=false", "--use-signing-config=false", "--tlog-upload=false")


class CosignFailed(PlatformError):
    """cosign could not do what it was asked; nothing was attached."""


class NotVerified(PlatformError):
    """No attestation of that kind on the image is signed by that key; the message has cosign's reason."""


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

    def same(self, other: "Envelope") -> bool:
        """Whether it is the same statement with the same signatures, however it is written down."""
        return self.payload == other.payload and _signatures(self) == _signatures(other)


def envelope(text: bytes) -> Envelope:
    """Read a DSSE envelope; ValueError says why it is none."""
    try:
        data = json.loads(text)
        payload = base64.b64decode(data["payload"], validate=True)
        signatures = [one["sig"] for one in data["signatures"]]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"is not a whole DSSE envelope ({type(error).__name__})") from None
    if not signatures:
        raise ValueError("carries no signature")
    return Envelope(payload, text)


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


def attach(repository: ImageRepository, digest: str, signed: Envelope) -> None:
    """Add a signed statement to those that an image has."""
    with tempfile.NamedTemporaryFile(prefix="delivery-attach-") as file:
        file.write(signed.text)
        file.flush()
        _ask(["attach", "attestation", "--attestation", file.name], repository, digest)


def verify(repository: ImageRepository, digest: str, predicate_type: str, public: Path) -> list[Envelope]:
    """Those statements of one kind about an image that this key signed; NotVerified when there is none."""
    command = ["verify-attestation", "--key", str(public), "--insecure-ignore-tlog=true"]
    command += ["--type", predicate_type]
    try:
        said = _ask(command, repository, digest)
    except CosignFailed as error:
        if _NOT_REACHED.search(error.message):
            raise
        raise NotVerified(error.message, error.hint) from None
    return [envelope(line.encode()) for line in said.splitlines() if line.strip()]


def _signatures(one: Envelope) -> list[Any]:
    return sorted(signature["sig"] for signature in json.loads(one.text)["signatures"])


def _ask(arguments: list[str], repository: ImageRepository, digest: str) -> str:
    # cosign speaks plain HTTP with some hosts unasked (localhost, private addresses), where nothing answers to TLS.
    where = ["--allow-http-registry"] if repository.plain_http else []
    with certificates.with_system(repository.ca) as authorities:
        if repository.ca:  # in place of the system's, so the file has both
            where += ["--registry-cacert", str(authorities)]
        return _run([*arguments, *where, repository.at(digest)], docker_config=repository.docker_config)


def _run(arguments: list[str], *, password: str = "", docker_config: Path | None = None) -> str:
    environment = os.environ | direct.environment() | {"COSIGN_PASSWORD": password}
    if docker_config:
        environment["DOCKER_CONFIG"] = str(docker_config)
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
    return done.stdout


def _reason(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    said = [line.removeprefix("Error: ") for line in lines if line.startswith("Error: ")]
    return (said or lines or ["it said nothing"])[-1][:300]
