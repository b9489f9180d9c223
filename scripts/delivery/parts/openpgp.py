"""OpenPGP through PySequoia: the keys that sign commits, so that no gpg is needed on the machine that promotes."""

from collections.abc import Iterator

from pysequoia import Cert, Profile, Sig, SignatureMode, Tsk, packet
from pysequoia import sign as _sign
from pysequoia import verify as _verify


class NoKey(ValueError):
    """A text that holds no OpenPGP key of the kind that was asked for; the message says why."""


def generate(user_id: str) -> tuple[str, str]:
    """A new key that never expires, `user_id` being `Name <e-mail>`: the secret and the public half, both armored."""
    key = Tsk.generate(user_id=user_id, profile=Profile.RFC4880)  # what gpg of every age reads
    return str(key), str(key.extract_certificate())


def sign(secret: str, data: bytes) -> str:
    """The armored detached signature of these bytes; NoKey when `secret` holds no key that signs."""
    try:
        signer = Tsk.from_bytes(secret.encode()).signer()
    except Exception as error:  # PySequoia raises its own kinds, and plain RuntimeError
        raise NoKey(_first(error)) from None
    return bytes(_sign(signer, data, mode=SignatureMode.DETACHED)).decode("ascii")


def verified(public: str, data: bytes, signature: str) -> bool:
    """Whether the key of this certificate made the signature of these bytes, and was allowed to."""
    certificate = _certificate(public)
    try:
        found = _verify(data, store=lambda _: [certificate], signature=Sig.from_bytes(signature.encode()))
    except (
        Exception
    ):  # not a signature, of other bytes, by another key: PySequoia tells them apart by text alone
        return False
    return any(one.certificate == certificate.fingerprint for one in found.valid_sigs)


def signing_key_id(public: str) -> str:
    """The 16 hexadecimal digits by which gpg, and so Argo CD, names the key that signs; NoKey when there is none.

    In most certificates that is a subkey: the flags that say so stand in the signature that follows it (RFC 9580,
    sections 5.2.3.29 and 10.1).
    """
    for key, flags in _keys(public):
        if flags:
            return key.upper()
    raise NoKey("it has no key that may sign")


def key_id(public: str) -> str:
    """The 16 hexadecimal digits of the primary key, by which gpg lists a certificate; NoKey when there is none."""
    return _certificate(public).fingerprint[-16:].upper()


def _keys(public: str) -> Iterator[tuple[str, bool]]:
    newest = ""
    for one in packet.PacketPile.from_bytes(bytes(_certificate(public))):
        if one.tag in (packet.Tag.PublicKey, packet.Tag.PublicSubkey):
            newest = one.key_id or ""
        elif one.key_flags is not None and newest:
            yield newest, bool(one.key_flags.signing)


def _certificate(public: str) -> Cert:
    try:
        return Cert.from_bytes(public.encode())
    except Exception as error:
        raise NoKey(_first(error)) from None


def _first(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
