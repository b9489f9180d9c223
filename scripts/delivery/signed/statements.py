"""Signed statements about a digest, attached to it in the registry: put one there, and read those that count.

Each signer's are in a repository of their own, by default below the image's: a registry can then say who writes there.
A statement is in-toto's: a subject (our repository and the digest), a type, a predicate. It counts when the key
of who must have signed it verifies it and its subject is the one that was asked about; any other is kept with
the reason why it does not count.
"""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from delivery.context import Context
from delivery.errors import NotReached, PlatformError
from delivery.files import write_private
from delivery.lock import alone
from delivery.parts import cosign, dsse
from delivery.parts.registry import Registry, connect
from delivery.signed import keys
from delivery.site import ImageRepository

STATEMENT = "https://in-toto.io/Statement/v1"
TEST_RESULT = "https://in-toto.io/attestation/test-result/v0.1"
APPROVAL = "https://delivery/approval/v1"
SBOM = "https://cyclonedx.org/bom"
PROVENANCE = "https://slsa.dev/provenance/v1"
ENTRY = "https://slsa.dev/verification_summary/v1"
_KNOWN = {TEST_RESULT, APPROVAL, SBOM, PROVENANCE, ENTRY}
_PAYLOAD = "application/vnd.in-toto+json"
_ATTEMPTS = 3
_LOCK_SECONDS = 60.0

ByKey = Callable[[str, cosign.Envelope], bool]  # whether the key of somebody signed an envelope

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Model(BaseModel):
    """A part of a predicate. in-toto: who reads a statement passes over the fields that it does not know."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Digest(Model):
    """A hash, as in-toto writes it."""

    sha256: Sha256


@dataclass(frozen=True)
class Statement:
    """A statement that counts: who signed it, what it says, and the hash of the signed bytes."""

    signer: str
    predicate: dict[str, Any]
    hash: str


@dataclass(frozen=True)
class Rejected:
    """Something attached that does not count: what it claims (verified by nobody), and why it does not."""

    reason: str
    predicate: dict[str, Any]


@dataclass(frozen=True)
class Attached:
    """Everything of one kind that is attached to a digest."""

    statements: tuple[Statement, ...] = ()
    rejected: tuple[Rejected, ...] = ()


def put(context: Context, digest: str, kind: str, predicate: dict[str, Any], signer: str) -> Statement:
    """Sign a statement, keep the signed file in the state folder, attach it, and see that it is there.

    Writers on this machine wait for each other: two that add to one digest at once could lose one another.
    """
    document = {
        "_type": STATEMENT,
        "subject": [{"name": context.site.image.name, "digest": {"sha256": digest.removeprefix("sha256:")}}],
        "predicateType": kind,
        "predicate": predicate,
    }
    signed = cosign.sign(json.dumps(document, sort_keys=True).encode(), keys.private(context.site, signer))
    made = Statement(signer, predicate, signed.hash)
    folder = context.site.state / "statements" / digest.removeprefix("sha256:")[:12]
    write_private(folder / f"{signer}-{made.hash[:12]}.json", signed.text.decode())
    attach(context, digest, signed, signer)
    return made


def attach(context: Context, digest: str, signed: cosign.Envelope, signer: str) -> None:
    """Add a signed statement to a signer's about a digest, with the signer's login; those that were there stay."""
    name, site = digest.removeprefix("sha256:")[:12], context.site
    place = site.logged_in(site.statements_of(signer), signer)
    with (
        alone(site.state / "locks" / f"{name}.lock", f"the other writer to {name}", _LOCK_SECONDS),
        connect(place) as registry,
    ):
        wanted, refused = [*_envelopes(registry, digest), signed], None
        for _ in range(_ATTEMPTS):
            there = _envelopes(registry, digest)
            missing = [one for one in wanted if not any(one.same(other) for other in there)]
            if not missing:
                return
            try:
                for one in missing:
                    cosign.attach(site.image, place, digest, one)
            except cosign.CosignFailed as error:
                refused = error  # a registry with a guard sends one of two away who write at once: look, and try again
        there = _envelopes(registry, digest)
        if not all(any(one.same(other) for other in there) for one in wanted):
            raise refused or NotReached(
                f"the registry does not keep what is attached to {digest[:19]}: somebody else writes there",
                "run it again when nobody else does",
            )


def read(context: Context, registry: Registry, digest: str, kind: str, signers: Iterable[str]) -> Attached:
    """The statements of one kind about a digest that one of `signers` made, and those that do not count.

    `registry` is a repository of the site's; each signer is looked for in its own alone.
    """
    places: dict[ImageRepository, list[str]] = {}
    for name in signers:
        places.setdefault(context.site.statements_of(name), []).append(name)
    found = [_read(context, registry.beside(place), digest, kind, names) for place, names in places.items()]
    statements = {one.hash: one for each in found for one in each.statements}
    return Attached(tuple(statements.values()), tuple(one for each in found for one in each.rejected))


def _read(context: Context, registry: Registry, digest: str, kind: str, names: list[str]) -> Attached:
    return judged(context, digest, kind, opened(registry.attestations(digest)), names, by_key(context))


def by_key(context: Context) -> ByKey:
    """What tells whether somebody's key signed an envelope; PlatformError, when asked, where that key is not there."""

    @cache
    def verifier(name: str) -> dsse.Signed:
        file, remedy = keys.public(context.site, name), context.site.remedy("signers")
        try:
            return dsse.verifier(keys.pem(file, remedy))
        except ValueError as error:
            raise PlatformError(f"{file}: {error}", remedy) from None

    return lambda name, one: verifier(name)(one)


def stored(context: Context, registry: Registry, digest: str, signers: Iterable[str]) -> list[bytes]:
    """Every statement about a digest that stands where these signers put theirs, verified by nobody."""
    places = dict.fromkeys(context.site.statements_of(name) for name in signers)
    return [text for place in places for text in registry.beside(place).attestations(digest)]


@dataclass(frozen=True)
class Opened:
    """What somebody attached, as it reads: envelopes with what they say, and what is no statement at all."""

    envelopes: tuple[tuple[cosign.Envelope, dict[str, Any]], ...]
    rejected: tuple[Rejected, ...]


def opened(texts: Iterable[bytes]) -> Opened:
    """Read these texts; nothing of it is verified yet."""
    found, rejected = [], []
    for text in texts:
        try:
            one = cosign.envelope(text)
            document = _document(one)
        except ValueError as error:
            rejected.append(Rejected(f"an attestation {error}", {}))
            continue
        if document["predicateType"] in _KNOWN:
            found.append((one, document))
        else:
            reason = f"an attestation has the unknown kind {document['predicateType']}"
            rejected.append(Rejected(reason, {}))
    return Opened(tuple(found), tuple(rejected))


def judged(
    context: Context,
    digest: str,
    kind: str,
    attached: Opened,
    names: Iterable[str],
    signed: ByKey,
) -> Attached:
    """The statements of one kind about a digest that one of `names` made, and those that do not count."""
    names = tuple(names)
    statements: list[Statement] = []
    rejected = list(attached.rejected)
    for one, document in attached.envelopes:
        if document["predicateType"] != kind:
            continue
        signer = next((name for name in names if signed(name, one)), None)
        reason = _wrong_subject(context, digest, document)
        if signer is None:
            reason = f"is not signed by {' or '.join(names)}, or was changed after it was signed"
        if signer is None or reason:
            rejected.append(Rejected(f"an attestation {reason}", document["predicate"]))
            continue
        statements.append(Statement(signer, document["predicate"], one.hash))
    return Attached(tuple(statements), tuple(rejected))


def first(error: ValidationError) -> str:
    """The first thing that a predicate has wrong, and where."""
    wrong = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in wrong["loc"])
    return f"{where}: {wrong['msg']}"


def _document(one: cosign.Envelope) -> dict[str, Any]:
    if one.kind != _PAYLOAD:
        raise ValueError(f"is of type {one.kind[:40]}, not {_PAYLOAD}")
    try:
        document = json.loads(one.payload)
    except ValueError:
        document = None
    if not isinstance(document, dict) or not isinstance(document.get("predicate"), dict):
        raise ValueError("is not a statement")
    if not isinstance(document.get("predicateType"), str):
        raise ValueError("does not say of which kind it is")
    return document


def _wrong_subject(context: Context, digest: str, document: dict[str, Any]) -> str:
    if document.get("_type") != STATEMENT:
        return f"is no statement of type {STATEMENT}"
    subjects = document.get("subject")
    if not isinstance(subjects, list) or len(subjects) != 1 or not isinstance(subjects[0], dict):
        return "is not about exactly one image"
    if subjects[0].get("digest") != {"sha256": digest.removeprefix("sha256:")}:
        return "is about another digest"
    if subjects[0].get("name") != context.site.image.name:
        return f"is about another repository, {str(subjects[0].get('name'))[:80]}"
    return ""


def _envelopes(registry: Registry, digest: str) -> list[cosign.Envelope]:
    found = []
    for text in registry.attestations(digest):
        try:
            found.append(cosign.envelope(text))
        except ValueError:
            continue  # it counts for nobody
    return found
