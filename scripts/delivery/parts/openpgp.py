"""OpenPGP through PySequoia: the keys that sign commits, so that no gpg is needed on the machine that promotes."""

from datetime import UTC, datetime
from functools import cache

from pysequoia import Cert, Profile, Sig, SignatureMode, Tsk, packet
from pysequoia import sign as _sign
from pysequoia import verify as _verify

_LONG_AGO = datetime.fromtimestamp(0, UTC)


class NoKey(ValueError):
    """A text that holds no OpenPGP key of the kind that was asked for; the message says why."""


def generate(user_id: str) -> tuple[str, str]:
    """A new key that never expires, `user_id` being `Name <e-mail>`: the secret and the public half, both armored."""
    key = Tsk.generate(user_id=user_id, profile=Profile.RFC4880)  # what gpg of every age reads
    return str(key), str(key.extract_certificate())


def sign(secret: str, data: bytes) -> str:
    """The armored detached signature of these bytes; NoKey when `secret` holds no key that signs."""
    try:
        key = Tsk.from_bytes(secret.encode())
    except Exception as error:  # PySequoia raises its own kinds, and plain RuntimeError
        raise NoKey(_first(error)) from None
    end = key.extract_certificate().expiration
    if end and end <= datetime.now(UTC):
        raise NoKey(f"it expired on {end:%Y-%m-%d}")
    try:
        signer = key.signer()
    except Exception as error:
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
    for key, bindings in _keys(_certificate(public)):
        if any(one.key_flags is not None and one.key_flags.signing for one in bindings):
            return (key.key_id or "").upper()
    raise NoKey("it has no key that may sign")


def key_id(public: str) -> str:
    """The 16 hexadecimal digits of the primary key, by which gpg lists a certificate; NoKey when there is none."""
    return _certificate(public).fingerprint[-16:].upper()


def fingerprint(public: str) -> str:
    """What tells a certificate from every other, whatever was added to it since; NoKey when it is none, or a secret."""
    found = _certificate(public).fingerprint
    secret = (packet.Tag.SecretKey, packet.Tag.SecretSubkey)
    if any(one.tag in secret for one in packet.PacketPile.from_bytes(public.encode())):
        raise NoKey("it holds a secret key")
    return found


def claims(public: str, signature: str) -> bool:
    """Whether a signature says that a key of this certificate made it. Anybody can write that: see `verified`."""
    return _issuer(_certificate(public), signature) is not None


def over(public: str, signature: str) -> str:
    """Why the key that a signature names counts no longer: it expired, or is revoked; empty when it counts.

    It may have been good when the signature says that it was made: whoever has an old key writes any date.
    """
    certificate = _certificate(public)
    taken_back = certificate.is_revoked
    try:
        ends = [certificate.expiration] if certificate.expiration else []
    except Exception as error:  # what binds it is too weak to be believed
        return f"cannot be judged: {_first(error)}"
    if issuer := _issuer(certificate, signature):
        key, bindings = issuer
        kinds = packet.SignatureType
        taken_back |= any(one.signature_type == kinds.SubkeyRevocation for one in bindings)
        bound = [one for one in bindings if one.signature_type == kinds.SubkeyBinding]
        # The newest binding says how long a subkey lasts; of a primary key `expiration` says it.
        newest = max(bound, key=lambda one: one.signature_created or _LONG_AGO, default=None)
        if newest and newest.key_validity_period and key.key_created:
            ends.append(key.key_created + newest.key_validity_period)
    if taken_back:
        return "is revoked"
    return f"expired on {min(ends):%Y-%m-%d}" if ends and min(ends) <= datetime.now(UTC) else ""


def revoked(public: str) -> bool:
    """Whether its owner took a certificate back; NoKey when it is none."""
    return _certificate(public).is_revoked


def _issuer(certificate: Cert, signature: str) -> tuple[packet.Packet, list[packet.Packet]] | None:
    """The key of a certificate that a signature names, with what binds it; None for any other text."""
    try:
        found = Sig.from_bytes(signature.encode())
    except Exception:  # not a signature
        return None
    named = (found.issuer_fingerprint or found.issuer_key_id or "").lower()
    return next(
        (one for one in _keys(certificate) if named and (one[0].fingerprint or "").endswith(named)), None
    )


def _keys(certificate: Cert) -> list[tuple[packet.Packet, list[packet.Packet]]]:
    """The primary key and the subkeys, each with the signatures that follow it."""
    found: list[tuple[packet.Packet, list[packet.Packet]]] = []
    for one in packet.PacketPile.from_bytes(bytes(certificate)):
        if one.tag in (packet.Tag.PublicKey, packet.Tag.PublicSubkey):
            found.append((one, []))
        elif one.tag == packet.Tag.Signature:
            found[-1][1].append(one)
    return found


@cache  # a long history asks a thousand times by the same few
def _certificate(public: str) -> Cert:
    try:
        return Cert.from_bytes(public.encode())
    except Exception as error:
        raise NoKey(_first(error)) from None


def _first(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
