"""Whose key signed a DSSE envelope, asked in this very process: a program for each question costs more than the answer.

The cluster asks with code of its own, policy-controller's; test_cosign.py holds that cosign says the same.
"""

import base64
from collections.abc import Callable
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

from delivery.parts.cosign import Envelope

Signed = Callable[[Envelope], bool]


def verifier(pem: str) -> Signed:
    """Tells of an envelope whether this public key signed it; ValueError for a key that cosign has no use for."""
    key: Any = serialization.load_pem_public_key(pem.encode())
    if isinstance(key, ec.EllipticCurvePublicKey):
        with_key: tuple[Any, ...] = (ec.ECDSA(hashes.SHA256()),)
    elif isinstance(key, rsa.RSAPublicKey):
        with_key = (padding.PKCS1v15(), hashes.SHA256())
    elif isinstance(key, ed25519.Ed25519PublicKey):
        with_key = ()
    else:
        raise ValueError(f"{type(key).__name__} is no key that signs statements")

    def signed(one: Envelope) -> bool:
        said = encoding(one.kind, one.payload)
        return any(_verifies(key, signature, said, with_key) for signature in one.signatures)

    return signed


def encoding(kind: str, payload: bytes) -> bytes:
    """DSSE's pre-authentication encoding: what is signed says of which type it is."""
    return b"DSSEv1 %d %s %d %s" % (len(kind.encode()), kind.encode(), len(payload), payload)


def _verifies(key: Any, signature: str, said: bytes, with_key: tuple[Any, ...]) -> bool:
    try:
        key.verify(base64.b64decode(signature, validate=True), said, *with_key)
    except (InvalidSignature, ValueError):
        return False
    return True
