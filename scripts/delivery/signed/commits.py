"""The commits that a gate signed: the only ones that count as a change of a guarded environment."""

from collections.abc import Callable, Iterator
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
    """The changes of one environment that led to a commit, newest first.

    Of a guarded environment those alone that its gate signed: what a commit says of itself, anybody can write.
    PlatformError when the gate's certificate is not there.
    """
    records = (one for one in change.history(repository, commit) if one.environment == environment.name)
    if not environment.guarded:
        yield from records
        return
    certificate = keys.commit_certificate(context.site, environment.gate)
    yield from (one for one in records if signed(repository, one.commit, certificate))


def newest(
    context: Context, repository: Repository, environment: Environment, commit: str = "HEAD"
) -> change.Record | None:
    """The newest of them; None when nothing ever entered."""
    return next(history(context, repository, environment, commit), None)
