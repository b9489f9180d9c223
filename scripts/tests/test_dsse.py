"""Whose key signed an envelope, asked in process: yes for what that key signed as it is, and for nothing else."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa, x25519

from delivery.parts import cosign, dsse

KIND = "application/vnd.in-toto+json"
STATEMENT = b'{"predicate": {}}'


def pem(key: Any) -> str:
    encoding, form = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    return str(key.public_key().public_bytes(encoding, form).decode())


def envelope(*signatures: bytes, kind: str = KIND, payload: bytes = STATEMENT) -> cosign.Envelope:
    document = {
        "payloadType": kind,
        "payload": base64.b64encode(payload).decode(),
        "signatures": [{"sig": base64.b64encode(one).decode()} for one in signatures],
    }
    return cosign.envelope(json.dumps(document).encode())


SAID = dsse.encoding(KIND, STATEMENT)
CURVE, RSA, EDWARDS = (
    ec.generate_private_key(ec.SECP256R1()),
    rsa.generate_private_key(65537, 2048),
    ed25519.Ed25519PrivateKey.generate(),
)
SIGNED = {
    "ECDSA": (CURVE, CURVE.sign(SAID, ec.ECDSA(hashes.SHA256()))),
    "RSA": (RSA, RSA.sign(SAID, padding.PKCS1v15(), hashes.SHA256())),
    "Ed25519": (EDWARDS, EDWARDS.sign(SAID)),
}


@pytest.mark.parametrize("kind", SIGNED)
def test_each_kind_of_key(kind: str) -> None:
    """What a key signed is verified by it and by no other; also beside a signature of somebody else."""
    key, signature = SIGNED[kind]
    signed = dsse.verifier(pem(key))
    assert signed(envelope(signature))
    assert signed(envelope(b"nonsense", signature))
    for other, (_, theirs) in SIGNED.items():
        assert signed(envelope(theirs)) == (other == kind)
    assert not signed(envelope(signature, payload=STATEMENT + b" "))
    assert not signed(envelope(signature, kind="text/plain"))
    assert not signed(envelope(signature[:-1]))


def test_a_signature_that_is_no_base64() -> None:
    """It is no signature, and no crash."""
    text = json.loads(envelope(SIGNED["ECDSA"][1]).text)
    text["signatures"][0]["sig"] = "!"
    assert not dsse.verifier(pem(CURVE))(cosign.envelope(json.dumps(text).encode()))


@pytest.mark.parametrize("text", ["", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----"])
def test_no_key(text: str) -> None:
    """A file that holds none is said to hold none."""
    with pytest.raises(ValueError, match=r"."):
        dsse.verifier(text)
    with pytest.raises(ValueError, match="no key that signs statements"):
        dsse.verifier(pem(x25519.X25519PrivateKey.generate()))
