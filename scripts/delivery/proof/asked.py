"""What Git asks of an environment: in a guarded one what its gate let in, else what the branch's newest commit says."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from delivery.context import Context
from delivery.desired import manifests, tags
from delivery.desired.manifests import Desired
from delivery.errors import DeliveryError, Unknown, or_unknown
from delivery.parts import argocd, git
from delivery.parts.registry import connect
from delivery.pipeline import FILE, RELEASE, Environment
from delivery.proof.decide import Entered
from delivery.signed import commits, entry


@dataclass(frozen=True)
class Asked:
    """What was read from Git's history about one environment."""

    repository: git.Repository | Unknown
    desired: Desired | Unknown
    entered: Entered | Unknown | None = (
        None  # None where nothing ever entered, or where the branch is followed
    )
    newest: str | Unknown = ""  # the digest that the newest values of a guarded environment name, if they do
    moved: bool = False  # the newest commit asks something else of a guarded environment than what entered


def of(context: Context, environment: Environment, repository: git.Repository | Unknown) -> Asked:
    """What Git asks of an environment, by a clone of the server's branch."""
    if isinstance(repository, Unknown):
        return Asked(repository, repository, repository if environment.guarded else None)
    head = repository.commit("HEAD")
    if not environment.guarded:
        return Asked(repository, _rendered(context, repository, environment, head))
    entered = _entered(context, repository, environment)
    # What enters by a tag leaves the branch as it is: its values are then what could enter one day.
    by_tag = context.pipeline.by_tag
    newest = "" if by_tag else _since(repository, environment, head, entered)
    if not isinstance(entered, Entered):
        return Asked(
            repository, entered or Unknown(f"nothing entered {environment.name} yet"), entered, newest
        )
    moved = not by_tag and not manifests.same(context, repository, environment, entered.release, head)
    wanted = _rendered(context, repository, environment, entered.release)
    return Asked(repository, wanted, entered, newest, moved)


def current(
    context: Context, environment: Environment, asked: Asked, application: argocd.Application | Unknown
) -> bool:
    """Whether Argo CD is at the commit that entered, or, where it follows the branch, at one that asks the same."""
    repository = asked.repository
    if isinstance(repository, Unknown) or isinstance(application, Unknown):
        return False
    at = application.revision
    if environment.guarded:
        return isinstance(asked.entered, Entered) and at == asked.entered.release
    head = repository.commit("HEAD")
    known = bool(at) and repository.ok("merge-base", "--is-ancestor", at, head)
    return known and manifests.same(context, repository, environment, at, head)


def foreign(
    context: Context, environment: Environment, asked: Asked, application: argocd.Application | Unknown
) -> tuple[str, ...] | Unknown:
    """The commits that Argo CD is at and that neither the branch nor, beneath a gate's tag, `release` ever had."""
    repository = asked.repository
    if isinstance(repository, Unknown):
        return repository
    if isinstance(application, Unknown):
        return application
    at = dict.fromkeys(commit for commit in (application.revision, application.told) if commit)
    strange = or_unknown(lambda: _strange(context, environment, repository, at))
    if isinstance(strange, Unknown) or not strange:
        return strange

    def again() -> tuple[str, ...]:
        with git.clone(context.site.git, context.pipeline.git.branch, bare=True) as newer:
            return _strange(context, environment, newer, strange)

    return or_unknown(again)  # somebody may have pushed it since the clone was made


def _strange(
    context: Context, environment: Environment, repository: git.Repository, at: Iterable[str]
) -> tuple[str, ...]:
    unknown = [commit for commit in at if not repository.contains(commit, "HEAD")]
    if not unknown or not environment.guarded:
        return tuple(unknown)
    entered = commits.history(context, repository, environment)
    tagged = {one.release for one in entered if one.tag and _stands(repository, one.release)}
    return tuple(commit for commit in unknown if commit not in tagged)


def _stands(repository: git.Repository, release: str) -> bool:
    """Whether a release has what a commit of the branch or of `release` has, and nothing else."""
    beneath = tags.stands_on(repository, release)
    same = repository.id_of(f"{beneath}^{{tree}}") == repository.id_of(f"{release}^{{tree}}")
    return same and tags.in_a_branch(repository, beneath)


def faults(
    context: Context, environment: Environment, asked: Asked, application: argocd.Application | Unknown
) -> tuple[str, ...] | Unknown:
    """What is wrong with the tags of an environment: one that moved, was made again, is gone, or is not its gate's."""
    repository = asked.repository
    if isinstance(repository, Unknown) or isinstance(application, Unknown) or not environment.guarded:
        return ()  # the others say so
    return or_unknown(lambda: tuple(_faults(context, environment, repository, application.target)))


def _faults(
    context: Context, environment: Environment, repository: git.Repository, target: str
) -> Iterator[str]:
    told = tags.belongs(context, environment, target)
    if told and (why := commits.objection(context, repository, environment, target)):
        yield f"tag {target}, at which Argo CD keeps {environment.name}, {why}"
    if not any(tags.belongs(context, environment, one) for one in repository.tag_names()):
        return  # what follows is about tags, and a proof need not verify a whole history of commits for it
    known = list(commits.history(context, repository, environment))
    ids = {one.commit for one in known}
    for one in known:
        if one.follows and one.follows not in ids:
            yield (
                f"what entered {environment.name} before tag {one.tag} is gone, or was made again: "
                f"{one.follows[:12]}"
            )
    newest = next(iter(known), None)
    if newest and newest.tag and not _stands(repository, newest.release):
        yield f"tag {newest.tag} stands on a commit which neither the branch nor {RELEASE} has"


def _rendered(
    context: Context, repository: git.Repository, environment: Environment, commit: str
) -> Desired | Unknown:
    return or_unknown(lambda: manifests.at(context, repository, environment, commit))


def _newest(repository: git.Repository, environment: Environment, head: str) -> str | Unknown:
    try:
        return manifests.image(repository, environment, head)[1]
    except manifests.NothingYet:
        return ""
    except DeliveryError as error:
        return Unknown(error.message)


def _since(
    repository: git.Repository, environment: Environment, head: str, entered: Entered | Unknown | None
) -> str | Unknown:
    """The same, unless it is what the values named when the strategy was changed back: nobody asked for that."""
    newest = _newest(repository, environment, head)
    if isinstance(entered, Entered) and entered.tag:
        changed = ("--first-parent", "-1", "--format=%H", "-G^strategy:", head, "--", FILE)
        back = repository.run("log", *changed).strip()
        if not back or newest == _newest(repository, environment, back):
            return ""
    return newest


def _entered(
    context: Context, repository: git.Repository, environment: Environment
) -> Entered | Unknown | None:
    """The newest change that the environment's gate signed, with the entry that belongs to it."""
    try:
        record = commits.newest(context, repository, environment)
        if record is None:
            return None
        with connect(context.site.image) as registry:
            known = entry.fetch(context, registry, record.after, environment)
    except DeliveryError as error:
        return Unknown(f"what entered {environment.name} cannot be read: {error.message}")
    ticket = known.of(record.commit)
    release, at = (ticket.release, ticket.at) if ticket else (None, None)
    return Entered(record.commit, record.release, record.after, release, known.rejected, at, record.tag)
