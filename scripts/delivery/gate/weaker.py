"""What environments would no longer ask for, when pipeline.yaml changes. Pure: two pipelines in, reasons out.

What a release must carry to enter an environment stands partly there (approval, what the cluster admits) and partly
in the environment before: its suites, and how well it is locked itself. So an environment may lose its lock by a
change beside it, and nothing in its own lines shows that.
"""

from collections.abc import Collection
from typing import get_args

from delivery.pipeline import Admits, Environment, Pipeline
from delivery.site import Site


def weaker(before: Pipeline, after: Pipeline) -> list[str]:
    """One reason for each way in which an environment that stays would open wider; empty when none does."""
    return [reason for new in after.environments for reason in opens(before, after, new.name)]


def opens(before: Pipeline, after: Pipeline, name: str) -> list[str]:
    """The same about one environment; empty when it is new."""
    new = after.environment(name)
    old = next((one for one in before.environments if one.name == name), None)
    if old is None:
        return _by_removal(before, after, new)
    reasons = _own(old, new) + _by_developers(before, after, name)
    if old.approval and new.approval:
        reasons += _by_approvers(before, after, new)
    if old.source is not None:
        reasons += _by_its_source(before, after, old, new)
    return reasons + _by_removal(before, after, new)


def _own(old: Environment, new: Environment) -> list[str]:
    reasons = []
    if _rank(new) < _rank(old):
        reasons.append(f"{new.name} would admit {new.admits}, not only what is {old.admits}")
    if old.approval and (new.approval is None or new.approval.required < old.approval.required):
        reasons.append(f"{new.name} would be entered with fewer approvals")
    elif old.approval and new.approval and new.approval.maximum_age > old.approval.maximum_age:
        reasons.append(f"{new.name} would take older approvals")
    # Each lets in somebody whom the other keeps out: who has the key, or who has the account.
    if old.approval and new.approval and old.approval.by != new.approval.by:
        reasons.append(f"{new.name} would be approved by {new.approval.by}, no longer by {old.approval.by}")
    if set(old.freeze) - set(new.freeze):
        reasons.append(f"{new.name} would be entered in times that are frozen now")
    return reasons


def _by_approvers(before: Pipeline, after: Pipeline, new: Environment) -> list[str]:
    who = {one.identity for one in before.approvers}
    if strange := sorted(one.identity for one in after.approvers if one.identity not in who):
        return [f"{new.name} could be approved by {', '.join(strange)}, too"]
    if new.approval and new.approval.by_review:
        # Whoever has that login on the forge has that person's word.
        known = {(one.identity, one.login) for one in before.approvers}
        others = sorted(
            f"{one.identity} as {one.login}"
            for one in after.approvers
            if one.login and (one.identity, one.login) not in known
        )
        return [f"{new.name} could be approved by {', '.join(others)}, too"] if others else []
    return []


def _by_developers(before: Pipeline, after: Pipeline, name: str) -> list[str]:
    # A key that another one takes the place of, in the same file, the gate finds out: no pipeline.yaml shows it.
    if not before.developers:
        return []
    if not after.developers:
        return [f"{name} would take commits that nobody signed"]
    known = {(one.identity.lower(), one.key) for one in before.developers}
    strange = [one for one in after.developers if (one.identity.lower(), one.key) not in known]
    said = ", ".join(sorted(f"{one.identity} ({one.key})" for one in strange))
    return [f"{name} would take commits signed by {said}, too"] if strange else []


def _by_its_source(before: Pipeline, after: Pipeline, old: Environment, new: Environment) -> list[str]:
    if new.source is None:
        return [f"{new.name} would come first, and take what nothing tested"]
    was, now = before.environment(old.source or ""), after.environment(new.source)
    reasons = []
    if missing := sorted(set(was.tests.requires) - set(now.tests.requires)):
        reasons.append(f"{now.name} does not require {', '.join(missing)}, which {was.name} does")
    if unknown := sorted(set(now.tests.without) - set(was.tests.without)):
        reasons.append(f"{now.name} lets {', '.join(unknown)} stay UNKNOWN, which {was.name} does not")
    if now.tests.maximum_age > was.tests.maximum_age:
        reasons.append(f"{now.name} has evidence stand for longer than {was.name}")
    if now.tests.soak < was.tests.soak:
        reasons.append(f"{now.name} has no such soak time as {was.name}")
    # After the last one nothing is tested any more: then it matters who else may change what is tested before it.
    if new == after.environments[-1] and new.admits == "tested" and _rank(now) < _rank(was):
        reasons.append(f"{now.name} admits {now.admits}, and {was.name} only what is {was.admits}")
    for site, signers in _signers(before).items():
        if was.name in signers and now.name not in _signers(after).get(site, ()):
            reasons.append(f"{was.name} names its key on site {site}, and {now.name} names none")
    said = "would take the evidence of"
    return [f"{new.name} {said} {now.name}: {reason}" for reason in reasons]


def _by_removal(before: Pipeline, after: Pipeline, new: Environment) -> list[str]:
    # What the one that goes asked of a release on its way, the next one must ask.
    reasons = []
    stay = {one.name: one for one in after.environments}
    for index, gone in enumerate(before.environments):
        if gone.name in stay or gone.approval is None:
            continue
        follows = next((stay[one.name] for one in before.environments[index + 1 :] if one.name in stay), None)
        if follows == new and (new.approval is None or new.approval.required < gone.approval.required):
            reasons.append(f"fewer people would approve what enters {new.name} than {gone.name} asks for now")
    return reasons


def _signers(pipeline: Pipeline) -> dict[str, Collection[str]]:
    return {site.name: site.signers.keys() for site in pipeline.sites if isinstance(site, Site)}


def _rank(environment: Environment) -> int:
    return get_args(Admits).index(environment.admits)
