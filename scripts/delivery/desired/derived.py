"""The files that follow from pipeline.yaml: Applications, projects, namespaces, what the cluster demands.

They are plain YAML in Git, so that a person reads and Argo CD takes them as they are. `delivery generate` writes
them, and `make lint` finds those that are stale.
"""

import difflib
import posixpath
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from delivery import roles
from delivery.desired import jobs, kinds
from delivery.errors import Refused
from delivery.parts import openpgp
from delivery.pipeline import BUILD, FILE, Environment, Pipeline
from delivery.site import LOCAL_GIT, Site

if TYPE_CHECKING:
    import jinja2

UNSET = "set-by-policy"  # where `delivery policy` puts what Git does not know
EVIDENCE, NAMESPACES = "policy/evidence.yaml", "policy/namespaces.yaml"
WRITERS, ROLES = "policy/writers.yaml", "policy/roles.yaml"
DELIVER, JENKINS = ".github/workflows/deliver.yaml", "Jenkinsfile"
_MARK = "# Written by `delivery generate`"  # a file without it is somebody's own, and stays
_MARKED = (_MARK, _MARK.replace("#", "//"))
FOLDERS = ("argocd/base", "argocd/projects", "policy")

# Path in the checkout -> what is to be there; None for a file that is to go.
Files = dict[str, str | None]


@dataclass(frozen=True)
class Seen:
    """What Argo CD has to know of a site, and the site's clusters of Argo CD.

    The repository, Argo CD's own namespace, the clusters that are not its own, and who else writes in them.
    """

    git_url: str
    namespace: str = "argocd"
    destinations: Mapping[str, str] = field(
        default_factory=dict
    )  # environment -> Argo CD's name of its cluster
    commit_keys: Mapping[str, str] = field(
        default_factory=dict
    )  # guarded environment -> the id of the OpenPGP key that signs its commits
    writers: Mapping[str, str] = field(
        default_factory=dict
    )  # environment -> the user that Argo CD is in its cluster, where that is not its own ServiceAccount
    controllers: tuple[str, ...] = ()  # users that are the team's own controllers

    def account(self, name: str) -> str:
        """The user name of one of Argo CD's own ServiceAccounts."""
        return roles.account(self.namespace, name)

    def writer(self, environment: str) -> str:
        """The user that Argo CD is where it writes an environment."""
        return self.writers.get(environment) or self.account("argocd-application-controller")


def seen(pipeline: Pipeline) -> Seen:
    """What the files in Git say: the team's own site, or the local one while there is no other."""
    for site in pipeline.sites:
        if isinstance(site, Site):
            return of(pipeline, site)
    return Seen(f"http://{LOCAL_GIT}/{pipeline.chart.release}.git")


def of(pipeline: Pipeline, site: Site) -> Seen:
    """What Argo CD has to know of one site."""
    places = site.environments.items()
    return Seen(
        site.git.for_argocd,
        site.argocd.namespace,
        {name: one.destination for name, one in places if one.destination},
        commit_keys(pipeline, site),
        {name: one.writes for name, one in places if one.writes},
        site.controllers,
    )


def commit_keys(pipeline: Pipeline, site: Site) -> dict[str, str]:
    """The ids of the OpenPGP keys that sign what enters each guarded environment, of those that are there."""
    found = {}
    for one in pipeline.environments:
        signer = site.signers.get(one.gate) if one.guarded else None
        if signer and signer.commits:
            with suppress(OSError, ValueError):
                found[one.name] = openpgp.signing_key_id(signer.commits.public.read_text(encoding="ascii"))
    return found


def application(pipeline: Pipeline, environment: Environment, argocd: Seen) -> dict[str, Any]:
    """The Application of an environment, as `delivery generate` writes it for a site."""
    from delivery.parts import documents

    facts = {"pipeline": pipeline, "argocd": argocd}
    return dict(documents.one(_application(pipeline, environment, facts)))


def _application(pipeline: Pipeline, environment: Environment, facts: Mapping[str, object]) -> str:
    values = posixpath.relpath(environment.values, pipeline.chart.path)
    return _rendered("application.yaml", {**facts, "environment": environment, "values": values})


def project(pipeline: Pipeline, environment: Environment, argocd: Seen) -> dict[str, Any]:
    """The AppProject of an environment, as `kubectl apply -k argocd/projects` brings it: with kinds.yaml.

    BadInput when that patch is missing or malformed.
    """
    from delivery.parts import documents

    facts = {**_facts(pipeline, argocd), "environment": environment}
    made = dict(documents.one(_rendered("project.yaml", facts)))
    brought = [one.model_dump() for one in kinds.named(pipeline.root)]
    return made | {"spec": made["spec"] | {"namespaceResourceWhitelist": brought}}


def text(pipeline: Pipeline, path: str, argocd: Seen) -> str:
    """One file of policy/, as `files` has it: the others are not rendered."""
    return _rendered(Path(path).name, _facts(pipeline, argocd))


def _facts(pipeline: Pipeline, argocd: Seen) -> dict[str, Any]:
    guarded = [one for one in pipeline.environments if one.admits == "tested"]
    app, (_, *locked) = pipeline.chart.release, pipeline.environments
    return {
        "app": app,
        "home": roles.home(app),
        "roles": roles,
        "kinds": kinds.resources(pipeline.root),
        "locked": locked,  # every environment but the first is written by Argo CD alone
        "under_test": locked[:-1],
        "namespaces": ", ".join(f"'{one.namespace}'" for one in pipeline.environments),
        "pipeline": pipeline,
        "argocd": argocd,
        "guarded": guarded,
        "sources": sources(pipeline),
        "build": BUILD,
        "steps": jobs.steps,
        "variables": partial(jobs.variables, pipeline),
        "unset": UNSET,
    }


def files(pipeline: Pipeline, argocd: Seen | None = None) -> dict[str, str]:
    """Every file that follows from pipeline.yaml, as Argo CD sees the site.

    BadInput when argocd/projects/kinds.yaml, which they follow from too, is missing or malformed.
    """
    facts = _facts(pipeline, argocd or seen(pipeline))
    made = {
        "argocd/base/kustomization.yaml": _rendered("base.yaml", facts),
        "argocd/kustomization.yaml": _rendered("strategy.yaml", facts),
        "argocd/projects/kustomization.yaml": _rendered("projects.yaml", facts),
        NAMESPACES: _rendered("namespaces.yaml", facts),
        ROLES: _rendered("roles.yaml", facts),
        WRITERS: _rendered("writers.yaml", facts),
    }
    if facts["guarded"]:
        made[EVIDENCE] = _rendered("evidence.yaml", facts)
    for path, template in ((DELIVER, "deliver.yaml"), (JENKINS, "Jenkinsfile")):
        if (read(pipeline.root, path) or "").startswith(_MARKED):  # who deletes it has another CI system
            made[path] = _rendered(template, facts)
    for one in pipeline.environments:
        made[f"argocd/base/{one.application}.yaml"] = _application(pipeline, one, facts)
        made[f"argocd/projects/{one.name}.yaml"] = _rendered("project.yaml", facts | {"environment": one})
    return made


def sources(pipeline: Pipeline) -> tuple[str, ...]:
    """The environments whose evidence the cluster itself asks for somewhere, each once, in order."""
    wanted = {one.source for one in pipeline.environments if one.admits == "tested"}
    return tuple(one.name for one in pipeline.environments if one.name in wanted)


def authorities(pipeline: Pipeline) -> dict[str, str]:
    """Whose statements the cluster itself asks for somewhere: what the policy calls them -> who signs."""
    found = {name: name for name in sources(pipeline)}
    if found:
        found[BUILD] = BUILD
    for one in pipeline.environments:
        if one.admits == "tested":
            found[f"entry.{one.name}"] = one.gate
            if one.approval:
                found |= {f"approval.{one.name}.{by}": by for by in pipeline.approval_signers(one)}
    return found


def stale(root: Path, wanted: Mapping[str, str], folders: Sequence[str] = FOLDERS) -> Files:
    """What must change so that the checkout has these files, and none in `folders` that we wrote for something else."""
    changes: Files = {path: text for path, text in wanted.items() if read(root, path) != text}
    for folder in folders:
        for file in sorted((root / folder).glob("*.yaml")):
            path = f"{folder}/{file.name}"
            if path not in wanted and (read(root, path) or "").startswith(_MARK):
                changes[path] = None
    return changes


def check(root: Path, wanted: Mapping[str, str], folders: Sequence[str] = FOLDERS) -> None:
    """Return when nothing is stale; Refused with the names of the files that are."""
    if changes := stale(root, wanted, folders):
        raise Refused(
            f"not as {FILE} says: {', '.join(sorted(changes))}",
            f"write them again: delivery generate; what is wrong in them belongs into {FILE} or a kustomize patch",
        )


def difference(root: Path, changes: Files) -> str:
    """The changes as one unified diff, as `git diff` shows it."""
    lines: list[str] = []
    for path, text in sorted(changes.items()):
        old = read(root, path)
        lines += difflib.unified_diff(
            (old or "").splitlines(),
            (text or "").splitlines(),
            "/dev/null" if old is None else f"a/{path}",
            "/dev/null" if text is None else f"b/{path}",
            lineterm="",
        )
    return "\n".join(lines)


def write(root: Path, changes: Files) -> None:
    """Make the changes, all of them: when one fails, what was there before is put back."""
    before = {path: read(root, path) for path in changes}
    try:
        for path, text in changes.items():
            _put(root / path, text)
    except BaseException:
        for path, text in before.items():
            _put(root / path, text)
        raise


def read(root: Path, path: str) -> str | None:
    """A file of the checkout, or None when there is none."""
    try:
        return (root / path).read_bytes().decode("utf-8", "replace")
    except FileNotFoundError:
        return None


def _put(file: Path, text: str | None) -> None:
    if text is None:
        file.unlink(missing_ok=True)
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(text.encode("utf-8"))


def _rendered(name: str, facts: Mapping[str, object]) -> str:
    return _templates().get_template(f"{name}.j2").render(facts)


@cache
def _templates() -> "jinja2.Environment":
    import jinja2
    from jinja2 import PackageLoader, StrictUndefined

    return jinja2.Environment(  # noqa: S701 - YAML, whose values are patterns that pipeline.yaml was checked against
        loader=PackageLoader("delivery.desired"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
