"""cosign without cosign: the interface of delivery.parts.cosign with real keys in this very process, in milliseconds.

What is signed is a DSSE envelope as cosign makes it (ECDSA P-256 over its pre-authentication encoding), what is
attached lies in the registry where cosign puts it: test_cosign.py shows that cosign itself takes ours, and that the
product takes cosign's. Only the private keys' files differ: PKCS #8.
"""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from delivery.context import Context
from delivery.parts import cosign, dsse
from delivery.parts.cosign import CosignFailed, Envelope, Key, envelope
from delivery.signed import keys, statements
from delivery.site import ImageRepository
from scripts.tests.shelf import HTTP, Shelf

PAYLOAD_TYPE = "application/vnd.in-toto+json"
DSSE = "application/vnd.dsse.envelope.v1+json"
OCI = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
_ANNOTATIONS = {"dev.cosignproject.cosign/signature": ""}
_ECDSA = ec.ECDSA(hashes.SHA256())
# A blob is what its digest says for ever.
_BLOBS: dict[str, bytes] = {}


def generate(prefix: Path, password: str) -> None:
    """Make PREFIX.key and PREFIX.pub."""
    key = ec.generate_private_key(ec.SECP256R1())
    encryption = serialization.BestAvailableEncryption(password.encode())
    pem = serialization.Encoding.PEM
    Path(f"{prefix}.key").write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, encryption))
    Path(f"{prefix}.pub").write_bytes(
        key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo)
    )


def sign(statement: bytes, key: Key) -> Envelope:
    """Sign an in-toto statement as it is, byte for byte."""
    try:
        loaded = serialization.load_pem_private_key(Path(key.reference).read_bytes(), key.password().encode())
    except ValueError as error:
        raise CosignFailed(f"the key cannot be read: {error}", "is it its password?") from None
    assert isinstance(loaded, ec.EllipticCurvePrivateKey)
    signature = loaded.sign(dsse.encoding(PAYLOAD_TYPE, statement), _ECDSA)
    document = {
        "payloadType": PAYLOAD_TYPE,
        "payload": base64.b64encode(statement).decode(),
        "signatures": [{"keyid": "", "sig": base64.b64encode(signature).decode()}],
    }
    return envelope(json.dumps(document).encode())


def attach(image: ImageRepository, place: ImageRepository, digest: str, signed: Envelope) -> None:
    """Add a signed statement about an image to those in `place`, with the login of that."""
    there = Attachments.of(place.at(digest), place.docker_config)
    there.write([*there.read(), signed.text])


def signed_by(text: bytes, public: Path) -> Envelope | None:
    """An envelope that this key signed; None for any other text."""
    try:
        one = envelope(text)
    except ValueError:
        return None
    return one if dsse.verifier(public.read_text())(one) else None


def attached(shelf: Shelf, digest: str, signer: str) -> Attachments:
    """What is in a signer's place about an image, for somebody with the registry's password who writes it by hand."""
    return Attachments(f"{shelf.name}/{signer}", digest, base64.b64encode(b"delivery:secret").decode())


def slipped_in(
    context: Context, digest: str, kind: str, predicate: dict[str, Any], signer: str, place: str
) -> None:
    """A statement that one signer made, in the place of another: whoever may write there can do that."""
    subject = {"name": context.site.image.name, "digest": {"sha256": digest.removeprefix("sha256:")}}
    document = {
        "_type": statements.STATEMENT,
        "subject": [subject],
        "predicateType": kind,
        "predicate": predicate,
    }
    made = cosign.sign(json.dumps(document).encode(), keys.private(context.site, signer))
    statements.attach(context, digest, made, place)


_REAL = {name: getattr(cosign, name) for name in ("generate", "sign", "attach")}


def install(patch: pytest.MonkeyPatch) -> None:
    """Let `delivery` sign with this in cosign's place."""
    for function in (generate, sign, attach):
        patch.setattr(cosign, function.__name__, function)


def remove(patch: pytest.MonkeyPatch) -> None:
    """Let it sign with cosign again."""
    for name, function in _REAL.items():
        patch.setattr(cosign, name, function)


class Attachments:
    """What is attached to one image, in the tag where cosign looks for it."""

    def __init__(self, repository: str, digest: str, login: str) -> None:
        """`repository` is HOST/PATH over plain HTTP, `login` is USER:PASSWORD in base64."""
        host, _, path = repository.partition("/")
        self._tag = f"manifests/{digest.replace(':', '-')}.att"
        self._url = httpx.URL(f"http://{host}/v2/{path}/")
        self._headers = {"Authorization": f"Basic {login}"}

    @classmethod
    def of(cls, image: str, docker_config: Path | None) -> Attachments:
        """Those of repository@digest, with the login that docker's configuration has."""
        repository, _, digest = image.partition("@")
        assert docker_config
        auths = json.loads((docker_config / "config.json").read_text())["auths"]
        return cls(repository, digest, auths[repository.partition("/")[0]]["auth"])

    def read(self) -> list[bytes]:
        """The texts, in the order of their coming."""
        answer = self._ask("GET", self._tag, headers={"Accept": OCI})
        if answer.status_code == 404:
            return []
        digests = [layer["digest"] for layer in answer.json()["layers"]]
        for digest in digests:
            if digest not in _BLOBS:
                _BLOBS[digest] = self._ask("GET", f"blobs/{digest}").content
        return [_BLOBS[digest] for digest in digests]

    def write(self, texts: list[bytes]) -> None:
        """These, and no others."""
        layers = [self._blob(text, DSSE) | {"annotations": _ANNOTATIONS} for text in texts]
        empty = {"architecture": "", "os": "", "config": {}}
        listed = {"rootfs": {"type": "layers", "diff_ids": [layer["digest"] for layer in layers]}}
        config = self._blob(json.dumps(empty | listed).encode(), CONFIG)
        manifest = {"schemaVersion": 2, "mediaType": OCI, "config": config, "layers": layers}
        self._ask("PUT", self._tag, content=json.dumps(manifest).encode(), headers={"Content-Type": OCI})

    def remove(self) -> None:
        """None any more."""
        there = self._ask("GET", self._tag, headers={"Accept": OCI})
        self._ask("DELETE", f"manifests/{there.headers['docker-content-digest']}")

    def _blob(self, content: bytes, kind: str) -> dict[str, Any]:
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        if self._ask("HEAD", f"blobs/{digest}").status_code == 404:
            upload = self._ask("POST", "blobs/uploads/").headers["location"]
            self._ask("PUT", str(httpx.URL(upload).copy_merge_params({"digest": digest})), content=content)
        return {"mediaType": kind, "size": len(content), "digest": digest}

    def _ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        headers = self._headers | options.pop("headers", {})
        answer = HTTP.request(method, self._url.join(path), headers=headers, **options)
        return answer if answer.status_code == 404 else answer.raise_for_status()
