"""The commits and tags that a gate signed: the only ones that count as a change of a guarded environment."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial

from delivery.context import Context
from delivery.desired import change, tags
from delivery.errors import PlatformError
from delivery.parts import openpgp
from delivery.parts.git import Repository, signature_of
from delivery.pipeline import Environment
from delivery.signed import keys


def signer(context: Context, environment: Environment) -> Callable[[bytes], str] | None:
    """What signs the commits that change an environment; None for the first one, which has no gate.

    PlatformError when the key is not on this machine, is open to others, or is none that signs.
    """
    if not environment.guarded:
        return None
    key = keys.commit_key(context.site, environment.gate)
    try:
        openpgp.sign(key, b"")
    except openpgp.NoKey as error:
        raise PlatformError(
            f"the OpenPGP key of {environment.gate} cannot sign: {error}", context.site.remedy("signers")
        ) from None
    return partial(openpgp.sign, key)


def history(
    context: Context, repository: Repository, environment: Environment, commit: str = "HEAD"
) -> Iterator[change.Record]:
    """The changes of one environment that led to a commit, newest first, as `counted` has them."""
    return counted(context, repository, [environment], commit)


def counted(
    context: Context, repository: Repository, environments: Iterable[Environment], commit: str = "HEAD"
) -> Iterator[change.Record]:
    """The changes of these environments that led to a commit, newest first.

    Of a guarded environment those alone that its gate signed: what a commit says of itself, anybody can write.
    PlatformError when a gate's certificate is not there.
    """
    return (one for one, counts in claimed(context, repository, environments, commit) if counts)


def claimed(
    context: Context, repository: Repository, environments: Iterable[Environment], commit: str = "HEAD"
) -> Iterator[tuple[change.Record, bool]]:
    """What claims to be a change of these environments, newest first, and whether it counts as one."""
    certificates = {
        one.name: keys.commit_certificate(context.site, one.gate) if one.guarded else None
        for one in environments
    }
    told = [one for one in change.history(repository, commit) if one.environment in certificates]
    stored = repository.commits(one.commit for one in told if not one.tag and certificates[one.environment])
    known = tags.every(repository) if any(one.tag for one in told) else {}
    beneath = repository.commits(tag.commit for tag in known.values())
    for one in told:
        certificate = certificates[one.environment]
        if one.tag:
            tag = known[one.tag]
            environment = context.environment(one.environment)
            counts = bool(certificate) and not _objection(
                context, environment, certificate or "", tag, beneath[tag.commit]
            )
        else:
            counts = certificate is None or _signed(stored[one.commit], certificate)
        yield one, counts


def objection(context: Context, repository: Repository, environment: Environment, name: str) -> str:
    """Why a tag is no change of an environment that its gate signed; empty when it is.

    PlatformError when the gate's certificate is not there.
    """
    tag = tags.every(repository, name).get(name)
    if tag is None:
        return "is not an annotated tag of a commit" if name in repository.tag_names() else "is not there"
    certificate = keys.commit_certificate(context.site, environment.gate)
    beneath = repository.raw("cat-file", "commit", tag.commit)
    return _objection(context, environment, certificate, tag, beneath)


def _objection(
    context: Context, environment: Environment, certificate: str, tag: tags.Tag, beneath: bytes
) -> str:
    if not tag.signature:
        return "is not signed"
    if not openpgp.verified(certificate, tag.content, tag.signature):
        return f"is not signed by {environment.gate}"
    if tag.name != tag.ref or not tags.belongs(context, environment, tag.ref):
        return f"was made as {tag.name}"
    if tag.trailers.get("Environment") != environment.name:
        return f"is about {tag.trailers.get('Environment') or 'no environment'}"
    if not _signed(beneath, certificate):
        return f"stands on {tag.commit[:12]}, which {environment.gate} did not sign"
    return ""


def newest(
    context: Context, repository: Repository, environment: Environment, commit: str = "HEAD"
) -> change.Record | None:
    """The newest of them; None when nothing ever entered."""
    return next(history(context, repository, environment, commit), None)


def _signed(stored: bytes, certificate: str) -> bool:
    content, signature = signature_of(stored)
    return bool(signature) and openpgp.verified(certificate, content, signature)
