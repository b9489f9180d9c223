"""The gate's signed verdict that a release may enter an environment: an entry, attached to its digest.

It is a SLSA Verification Summary (https://slsa.dev/spec/v1.1/verification_summary). What SLSA leaves open stands in
`entry`: environment, commit (whose chart and values run), change (the commit of the branch that asks for it),
manifests (the identity of what the chart renders there), form (promotion or rollback), and the reason of a rollback.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Literal

from pydantic import AwareDatetime, Field, ValidationError

from delivery import pipeline as pipelines
from delivery.context import Context
from delivery.parts.registry import Registry
from delivery.pipeline import Environment
from delivery.signed import statements
from delivery.signed.statements import Attached, Digest, Model

Form = Literal["promotion", "rollback"]
_Commit = Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]


class _Resource(Model):
    uri: str = ""
    digest: Digest


class Release(Model):
    """What entered, and where."""

    environment: str
    commit: _Commit  # whose chart and values the environment has
    change: _Commit  # the commit of the branch that asks for it; of a promotion the same
    manifests: Digest
    form: Form
    reason: str = ""  # why a rollback went through a freeze


def release(
    environment: Environment, commit: str, change: str, manifests: str, form: Form, reason: str = ""
) -> Release:
    """What enters an environment; `manifests` is the sha256 of what the chart renders at `commit`."""
    return Release(
        environment=environment.name,
        commit=commit,
        change=change,
        manifests=Digest(sha256=manifests),
        form=form,
        reason=reason,
    )


class _Predicate(Model):
    resourceUri: str
    timeVerified: AwareDatetime
    policy: _Resource
    inputAttestations: tuple[_Resource, ...] = ()
    verificationResult: Literal["PASSED"]
    entry: Release


@dataclass(frozen=True)
class Entry:
    """One verified entry: what may run, by which rules, on which evidence and approvals, and since when."""

    release: Release
    rules: str  # sha256 of the pipeline.yaml that it was judged by
    inputs: tuple[str, ...]  # sha256 of the statements that the gate rested on
    at: datetime
    hash: str


@dataclass(frozen=True)
class Entries:
    """The entries of a digest into one environment, oldest first, and why other attestations do not count."""

    entries: tuple[Entry, ...] = ()
    rejected: tuple[str, ...] = ()

    def of(self, change: str) -> Entry | None:
        """The newest entry that names a commit of the branch: one that went around a lock was signed anew."""
        return next((one for one in reversed(self.entries) if one.release.change == change), None)


def put(
    context: Context,
    digest: str,
    environment: Environment,
    what: Release,
    rules: str,
    inputs: Iterable[str],
    now: datetime,
) -> str:
    """Sign an entry with the key of the environment's gate, attach it to the digest, and say its hash."""
    predicate = {
        "verifier": {"id": f"{context.site.git.for_argocd}#{environment.gate}"},
        "timeVerified": now.isoformat(),
        "resourceUri": f"{context.site.image.name}@{digest}",
        "policy": {"uri": f"{context.site.git.for_argocd}#{pipelines.FILE}", "digest": {"sha256": rules}},
        "inputAttestations": [{"digest": {"sha256": one}} for one in inputs],
        "verificationResult": "PASSED",
        "verifiedLevels": [f"DELIVERY_{what.form.upper()}"],
        "slsaVersion": "1.1",
        "entry": what.model_dump(mode="json", exclude_defaults=True),
    }
    return statements.put(context, digest, statements.ENTRY, predicate, environment.gate).hash


def fetch(context: Context, registry: Registry, digest: str, environment: Environment) -> Entries:
    """Every entry of a digest into an environment that its gate signed, oldest first."""
    attached = statements.read(context, registry, digest, statements.ENTRY, [environment.gate])
    return read(context, digest, environment, attached)


def read(context: Context, digest: str, environment: Environment, attached: Attached) -> Entries:
    """Those of what was signed that are entries of a digest into an environment, oldest first."""
    found, rejected = [], []
    for one in attached.rejected:
        claims = one.predicate.get("entry")
        if isinstance(claims, dict) and claims.get("environment") == environment.name:
            rejected.append(one.reason)
    for statement in attached.statements:
        try:
            said = _Predicate.model_validate(statement.predicate)
        except ValidationError as error:
            rejected.append(f"an attestation is not an entry: {statements.first(error)}")
            continue
        if said.entry.environment != environment.name:
            rejected.append(f"an entry that {environment.gate} signed is for {said.entry.environment[:40]}")
        elif said.resourceUri != f"{context.site.image.name}@{digest}":
            rejected.append("an entry is about another image")
        else:
            inputs = tuple(one.digest.sha256 for one in said.inputAttestations)
            found.append(
                Entry(said.entry, said.policy.digest.sha256, inputs, said.timeVerified, statement.hash)
            )
    return Entries(tuple(sorted(found, key=lambda one: one.at)), tuple(rejected))
