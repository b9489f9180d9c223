"""`delivery check [REF]`: what a proposal asks for, and whether it may enter. Nothing is written.

Judged is what the server's branch would be if the proposal were merged now, by the rules of the branch as it is: what
the proposal makes of them is said, and counts for nothing.
"""

from dataclasses import dataclass, field, replace

from delivery import pipeline as pipelines
from delivery.build import image
from delivery.context import Context
from delivery.desired import difference
from delivery.desired import manifests as desired
from delivery.errors import BadInput, DeliveryError, NotReached, Refused
from delivery.gate import decide as gate
from delivery.gate import gather
from delivery.gate.weaker import weaker
from delivery.parts import git, values
from delivery.parts.registry import connect
from delivery.pipeline import Environment
from delivery.progress import phase
from delivery.signed import commits
from delivery.verbs import frozen

_RULES = (pipelines.FILE, "policy", "argocd")
_NONE = "none"


@dataclass(frozen=True)
class Proposed:
    """What a proposal makes of one guarded environment."""

    environment: str
    asked: bool  # its own values change, so that this is to enter; else it comes with a later promotion
    build_before: str
    before: str  # the digest; "none" where nothing entered yet
    build: str
    after: str
    by_review: bool  # whether its approval is the review of the proposal
    diff: str = ""  # of the rendered manifests: what is asked for from what entered last, anything else from the branch
    untested: str = (
        ""  # of the rendered manifests: what is asked for from what was tested in the environment before
    )
    decision: gate.Decision = field(default=gate.Decision((), ()))


@dataclass(frozen=True)
class Checked:
    """A proposal, and the answer to all that it asks for."""

    branch: str
    base: str  # the branch as it was
    commit: str  # the proposal
    environments: tuple[Proposed, ...]
    follows: str  # the first environment, where it gets something by the merge alone; else empty
    rules: tuple[str, ...]  # the files of rules that it changes
    weaker: tuple[str, ...]  # how its rules would ask for less
    refusals: tuple[str, ...]  # what is wrong with the proposal itself

    @property
    def decision(self) -> gate.Decision:
        """Everything that stands against it, each reason with its environment."""
        return gate.Decision(
            self.refusals
            + tuple(
                f"{one.environment}: {why}" for one in self.environments for why in one.decision.refusals
            ),
            tuple(f"{one.environment}: {why}" for one in self.environments for why in one.decision.unknowns),
        )


def check(context: Context, ref: str = "HEAD") -> Checked:
    """Whether what a commit of the checkout asks for may enter, if it were merged into the server's branch now.

    BadInput when the checkout has no such commit. What cannot be read is unknown.
    """
    checkout = git.checkout(context.checkout)
    commit = checkout.commit(ref)
    branch = context.pipeline.git.branch
    with git.clone(context.site.git, branch, bare=True) as repository:
        base = repository.commit("HEAD")
        repository.raw("fetch", "--quiet", "--no-tags", "--no-write-fetch-head", str(checkout.path), commit)
        return judged(context, repository, base, commit)


def judged(context: Context, repository: git.Repository, base: str, commit: str) -> Checked:
    """The same about a commit that this repository already has, with the branch at `base`."""
    ruling = _ruling(context, repository, base)
    branch = ruling.pipeline.git.branch
    try:
        merged = _merged(ruling, repository, base, commit)
    except Refused as error:
        return Checked(branch, base, commit, (), "", (), (), (error.message,))
    changed = _changed(ruling, repository, base, merged)
    asks_less, refusals, stay = _new_rules(ruling, repository, merged)
    found: list[Proposed] = []
    for target in ruling.environments:
        if target.guarded and target.name in stay:
            with phase(f"What it makes of {target.name}"):
                made = _proposed(ruling, repository, base, merged, target)
            found += [made] if made else []
    first = ruling.pipeline.first
    follows = "" if desired.same(ruling, repository, first, base, merged) else first.name
    return Checked(branch, base, commit, tuple(found), follows, changed, asks_less, refusals)


def insist(checked: Checked) -> None:
    """Return when it may enter, or asks for nothing; Refused or NotReached when not. The reasons were shown."""
    decision = checked.decision
    if decision.allowed:
        return
    said = "; ".join(decision.refusals or decision.unknowns)
    if decision.refusals:
        raise Refused(f"merged like this it would be refused: {said}", "what is missing: delivery status")
    raise NotReached(
        f"whether it may enter is not known: {said}",
        f"when that answers: delivery check {checked.commit[:12]}",
    )


def _ruling(context: Context, repository: git.Repository, base: str) -> Context:
    """The context by the rules of the branch. The site stays: the gate holds its keys against the cluster's."""
    text = repository.show(base, pipelines.FILE)
    if text == (context.checkout / pipelines.FILE).read_bytes():
        return context
    rules = pipelines.parse((text or b"").decode("utf-8", "replace"), context.checkout)
    return replace(context, pipeline=rules)


def _merged(context: Context, repository: git.Repository, base: str, commit: str) -> str:
    """What the branch would be; Refused when it cannot be merged as it is."""
    branch = context.pipeline.git.branch
    if repository.contains(base, commit):
        return commit
    if repository.contains(commit, base):
        return base
    if context.pipeline.developers:
        raise Refused(
            f"{branch} moved on since, and a merge has to be signed by a developer: merge {branch} into it",
            "",
        )
    try:
        tree = repository.run("merge-tree", "--write-tree", "--no-messages", base, commit)
    except git.GitFailed as error:
        if not error.message.endswith("exit 1"):  # which is how it tells conflicts
            raise
        raise Refused(f"it conflicts with {branch}: merge {branch} into it, or rebase it", "") from None
    return repository.merge_of(
        tree, (base, commit), f"{commit[:12]} into {branch}", ("delivery", "delivery@localhost")
    )


def _changed(context: Context, repository: git.Repository, base: str, merged: str) -> tuple[str, ...]:
    keys = [one.key for one in context.pipeline.developers]
    return tuple(repository.run("diff", "--name-only", base, merged, "--", *_RULES, *keys).splitlines())


def _new_rules(
    context: Context, repository: git.Repository, merged: str
) -> tuple[tuple[str, ...], tuple[str, ...], frozenset[str]]:
    """How the proposal's rules ask for less, what is wrong with them, and the environments that stay."""
    everything = frozenset(one.name for one in context.environments)
    text = (repository.show(merged, pipelines.FILE) or b"").decode("utf-8", "replace")
    try:
        after = pipelines.parse(text, context.checkout)
    except BadInput as error:
        return (), (error.message.removeprefix(f"{context.checkout}/"),), everything
    names = frozenset(one.name for one in after.environments)
    return tuple(weaker(context.pipeline, after)), (), everything & names


def _proposed(
    context: Context, repository: git.Repository, base: str, merged: str, target: Environment
) -> Proposed | None:
    """What becomes of one environment; None where that is nothing else than it was."""
    # In release-branch nothing enters by what the branch says: a moved ref asks.
    asked = not context.pipeline.by_tag and (
        repository.show(base, target.values) != repository.show(merged, target.values)
    )
    if not asked and desired.same(context, repository, target, base, merged):
        return None
    runs = commits.newest(context, repository, target, base)
    has = (runs.release if runs else "") if asked else base
    made = Proposed(
        *(target.name, asked, *_image(repository, target, has), *_image(repository, target, merged)),
        by_review=asked and target.approval is not None and target.approval.by_review,
    )
    if not asked and made.after == _NONE:
        return None  # nothing entered yet, and nothing is to enter
    try:
        if asked:
            desired.image(repository, target, merged)
        new = difference.lines(context, repository, target, merged)
        old = difference.lines(context, repository, target, has)
        labels = f"{target.name} at {has[:12] or 'nothing'}", f"{target.name} with this"
        made = replace(made, diff=difference.difference(old, new, *labels))
        if not asked:
            return made if made.diff else None
        source = context.pipeline.environment(target.source or "")
        then = difference.lines(context, repository, source, merged)
        untested = difference.difference(then, new, f"{source.name} with this", f"{target.name} with this")
        return replace(made, untested=untested, decision=_decided(context, repository, merged, target))
    except (BadInput, Refused) as error:
        return replace(made, decision=gate.Decision((error.message,), ()))
    except DeliveryError as error:
        return replace(made, decision=gate.Decision((), (error.message,)))


def _decided(context: Context, repository: git.Repository, merged: str, target: Environment) -> gate.Decision:
    """What the gate says to exactly this, its approval by review aside: that comes with the merge."""
    text = desired.file(repository, target, merged).decode("utf-8", "replace")
    _, digest = desired.named(text, target.values)
    with connect(context.site.image) as registry:
        built = image.known(context, registry, digest)
    wrong = tuple(
        f"{target.values} says {'.'.join(path)} {says!r}, and {digest[:19]} is {right!r}"
        for path, right in desired.naming(context, built.build, digest).items()
        if (says := values.get(text, path, target.values)) != right
    )
    question = gather.question(context, repository, merged, target, built)
    # The rules are those of the branch, and the proposal's own are shown.
    decision = gate.decide(replace(question, rules=True, before_review=True))
    decision = frozen.also(context, target, decision)
    return replace(decision, refusals=wrong + decision.refusals)


def _image(repository: git.Repository, target: Environment, commit: str) -> tuple[str, str]:
    """Build and digest that a commit asks for, as its values say, right or wrong."""
    text = repository.show(commit, target.values) if commit else None
    if text is None:
        return "", _NONE
    try:
        return desired.named(text.decode("utf-8", "replace"), target.values)
    except BadInput:
        return "", _NONE
