"""`delivery enter ENV`: what people asked for with Git alone, gated, signed and pinned.

In manual-promotion they edited the values file of the environment, and merged it. In release-branch they moved the
branch `release` forward, or made the tag `request/v1.1` at the commit that the environment before proved.
"""

from delivery.context import Context
from delivery.desired import manifests as desired
from delivery.desired import tags
from delivery.errors import BadInput, Refused
from delivery.gate import candidate
from delivery.parts import git
from delivery.pipeline import Environment
from delivery.signed import developers
from delivery.verbs import promote
from delivery.verbs.carry import Planned, Promotion, carry


def enter(context: Context, environment: Environment, version: str | None = None) -> Promotion:
    """Let in what Git already asks for, if the gate does; Refused when Git asks for nothing, or for something else.

    Nothing is written but the gate's own signature: a commit that changes nothing, or a tag.
    """
    source = promote.before(context, environment)
    if version is not None:
        tags.version(context, environment, version)

    def plan(repository: git.Repository, commit: str) -> Planned:
        if not context.pipeline.by_tag:
            return _edited(context, repository, environment, commit)
        if environment.name != context.environments[-1].name:
            return promote.planned(
                context, repository, environment, candidate.released(context, repository, environment)
            )
        chosen = _requested(context, repository, version)
        what = candidate.of(context, repository, environment)
        asked = repository.commit(f"refs/tags/{tags.REQUEST}{chosen}")
        if what.commit not in (asked, tags.stands_on(repository, asked)):
            raise Refused(
                f"{tags.REQUEST}{chosen} is at {asked[:12]}, and {source.name} proved {what.commit[:12]}",
                "ask for what is there, by the next version: delivery status",
            )
        return promote.planned(context, repository, environment, what, version=chosen)

    return carry(context, environment, plan)


def _edited(context: Context, repository: git.Repository, environment: Environment, commit: str) -> Planned:
    what = candidate.of(context, repository, environment)
    try:
        _, named = desired.image(repository, environment, commit)
    except desired.NothingYet:
        named = ""
    if named != what.digest:
        raise Refused(
            f"{environment.values} names {named[:19] or 'no digest'}, and {environment.source} asks for "
            f"{what.digest[:19]}",
            f"write what {environment.source} asks for into it, and merge that: nothing else can enter",
        )
    return promote.planned(context, repository, environment, what)


def _requested(context: Context, repository: git.Repository, version: str | None) -> str:
    """The version that is asked for and not there yet, or the one that was named; Refused when nobody asked."""
    names = set(repository.tag_names())
    asked = sorted(
        (name for one in names if (name := one.removeprefix(tags.REQUEST)) != one),
        key=lambda name: [int(part) if part.isdigit() else -1 for part in name.removeprefix("v").split(".")],
    )
    if version is not None:
        asked = [one for one in asked if one == version]
    elif len(asked) > 1:
        asked = [one for one in asked if one not in names] or asked[-1:]
    if not asked:
        raise Refused(
            f"nobody asked for {version or 'a version'} with Git",
            f"git tag -a {tags.REQUEST}{version or 'v1.0'} COMMIT, and push it",
        )
    if len(asked) > 1:
        raise BadInput(f"several versions are asked for: {', '.join(asked)}", "--version says which")
    tags.version(context, context.environments[-1], asked[0])
    _insist_signed(context, repository, asked[0])
    return asked[0]


def _insist_signed(context: Context, repository: git.Repository, version: str) -> None:
    """Return when nobody has to sign, or one of the developers of pipeline.yaml signed the request."""
    ring = developers.at(repository, repository.commit("HEAD"), context.pipeline.developers)
    if not ring:
        return
    name = f"{tags.REQUEST}{version}"
    tag = tags.every(repository, name).get(name)
    if tag is None or tag.name != name:
        why = "is no annotated tag of its own name, so nobody signed it"
    else:
        why = ring.by(tag.content, tag.signature).objection
    if why:
        raise Refused(
            f"{name} {why}", f"a developer of pipeline.yaml asks: git tag -s {tags.REQUEST}v… COMMIT"
        )
