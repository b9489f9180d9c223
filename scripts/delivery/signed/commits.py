"""The commits that a gate signed: the only ones that count as a change of a guarded environment."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial

from delivery.context import Context
from delivery.desired import change
from delivery.errors import PlatformError
from delivery.parts import openpgp
from delivery.parts.git import Repository
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


def signed(repository: Repository, commit: str, certificate: str) -> bool:
    """Whether the key of this certificate signed a commit as it is."""
    content, signature = repository.signature(commit)
    return bool(signature) and openpgp.verified(certificate, content, signature)


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
    certificates = {
        one.name: keys.commit_certificate(context.site, one.gate) if one.guarded else None
        for one in environments
    }
    for one in change.history(repository, commit):
        if one.environment in certificates:
            certificate = certificates[one.environment]
            if certificate is None or signed(repository, one.commit, certificate):
                yield one


def newest(
    context: Context, repository: Repository, environment: Environment, commit: str = "HEAD"
) -> change.Record | None:
    """The newest of them; None when nothing ever entered."""
    return next(history(context, repository, environment, commit), None)
