"""pipeline.yaml as typed data: the app, environments in order, the rules of each, the sites."""

import hashlib
import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    Discriminator,
    Field,
    PrivateAttr,
    Tag,
    ValidationError,
    field_validator,
    model_validator,
)

from delivery.app import App, Questions
from delivery.errors import BadInput
from delivery.fields import Hours, Model, Name, RepositoryPath
from delivery.freeze import Freeze
from delivery.site import LocalSite, Site

FILE = "pipeline.yaml"

Seconds = Annotated[float, Field(gt=0, le=7200)]
Email = Annotated[str, Field(pattern=r"^[^@\s<>]+@[^@\s<>]+$")]
Login = Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.-]*$")]
Admits = Literal["anything", "pinned", "tested"]  # each is stricter than the one before it
Strategy = Literal["manual-promotion", "release-branch"]
RELEASE = "release"  # the branch that the strategy release-branch is called after
BUILD = "build"  # who signs the SBOM and the provenance
REVIEW = "review"  # who signs what a forge says of reviews, where they are the approval
_YAML_WORDS = frozenset(("y", "n", "yes", "no", "on", "off", "true", "false", "null"))
_TAKEN = re.compile(r"^(argocd|cosign-system|default|kube-.*)$")


class Image(Model):
    """What is built."""

    context: RepositoryPath
    first_build_number: Annotated[int, Field(ge=1, strict=True)]


class Chart(Model):
    """The one Helm chart of all environments."""

    path: RepositoryPath
    release: Name


class Git(Model):
    """The branch that the environments live on."""

    branch: Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w./-]*$")]


class SuiteRules(Model):
    """What an environment's own tests must show before a digest may go on from there."""

    requires: Annotated[tuple[Name, ...], Field(min_length=1)]
    without: dict[Name, Annotated[str, Field(min_length=1)]] = Field(default_factory=dict)
    maximum_age: Hours
    soak: Annotated[float, Field(ge=0)] = 0  # minutes


class ApprovalRule(Model):
    """How many people must allow a digest into an environment, how, and for how long their word stands."""

    required: Annotated[int, Field(ge=1, strict=True)]
    maximum_age: Hours
    by: Literal["key", "review"] = "key"  # the approver's own; or the review of the merged pull request

    @property
    def by_review(self) -> bool:
        """Whether the approval is a review on the forge, and not the signature of the approver's own key."""
        return self.by == "review"


class Environment(Model):
    """One environment: where its digests come from, which file names them, how it is told, what it asks."""

    name: Name
    namespace: Name
    application: Name
    values: RepositoryPath
    admits: Admits
    tests: SuiteRules
    approval: ApprovalRule | None = None
    freeze: tuple[Freeze, ...] = ()

    _source: str | None = PrivateAttr(default=None)

    @field_validator("freeze")
    @classmethod
    def _differ(cls, freezes: tuple[Freeze, ...]) -> tuple[Freeze, ...]:
        times = [(one.since.split(), one.zone, one.hours) for one in freezes]
        if twice := next((one for one in times if times.count(one) > 1), None):
            raise ValueError(f"the freeze from {' '.join(twice[0])!r} is there twice")
        return freezes

    @field_validator("name", "namespace")
    @classmethod
    def _stands_anywhere(cls, text: str) -> str:
        # In YAML, in Rego, in host names.
        if not text[0].isalpha() or text in _YAML_WORDS:
            raise ValueError(
                f"{text!r} is no name: it begins with a letter, and YAML must not read it as true or null"
            )
        return text

    @field_validator("namespace")
    @classmethod
    def _is_free(cls, text: str) -> str:
        if _TAKEN.match(text):
            raise ValueError(f"the namespace {text} belongs to Kubernetes or to the platform")
        return text

    @property
    def source(self) -> str | None:
        """Where its digests come from: the environment before it, or None for the build."""
        return self._source

    @property
    def guarded(self) -> bool:
        """Whether it has a gate, which signs the commit that Argo CD keeps it at. The first follows the branch."""
        return self._source is not None

    @property
    def gate(self) -> str:
        """Who signs what enters it: its gate."""
        return f"gate-{self.name}"


class Approver(Model):
    """Somebody who may allow a digest into an environment: the name of the key, and whose it is."""

    name: Name
    identity: Email
    login: Login | None = None  # on the forge, where reviews count


class Developer(Model):
    """Somebody whose signature on a commit counts: whose it is, and where the public key is in the repository."""

    name: Name
    identity: Email
    key: RepositoryPath  # an OpenPGP certificate, or one line of an SSH public key


class Waits(Model):
    """The limit of every wait, in seconds."""

    argocd: Seconds
    rollout: Seconds
    settle: Seconds
    answer: Seconds
    build: Seconds
    tests: Seconds


def _kind(data: Any) -> str:
    made_here = "local" in data if isinstance(data, dict) else isinstance(data, LocalSite)
    return _LOCAL if made_here else _TEAMS


# Which of the two a site is decides which error is told: never what it lacks to be the other one.
_LOCAL, _TEAMS = "<local>", "<site>"
AnySite = Annotated[Annotated[LocalSite, Tag(_LOCAL)] | Annotated[Site, Tag(_TEAMS)], Discriminator(_kind)]


class Pipeline(Model):
    """The whole of pipeline.yaml, already checked against itself."""

    image: Image
    chart: Chart
    app: App
    ci: Questions = Questions()
    git: Git
    strategy: Strategy = "manual-promotion"
    environments: Annotated[tuple[Environment, ...], Field(min_length=1)]
    approvers: tuple[Approver, ...] = ()
    developers: tuple[Developer, ...] = ()  # none: nobody is asked to sign commits
    waits: Waits
    sites: Annotated[tuple[AnySite, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Self:
        previous: str | None = None
        for environment in self.environments:
            environment._source, previous = previous, environment.name
        if self.first.admits == "tested":
            raise ValueError(f"{self.first.name} comes first: no environment before it could test anything")
        names = [environment.name for environment in self.environments]
        for field in ("name", "namespace", "application", "values"):
            seen = [getattr(environment, field) for environment in self.environments]
            if len(set(seen)) != len(seen):
                raise ValueError(f"two environments share one {field}: {', '.join(seen)}")
        if self.git.branch == RELEASE:
            raise ValueError(
                f"git.branch cannot be {RELEASE}: that is the branch of the strategy release-branch"
            )
        if BUILD in names:
            raise ValueError(f"an environment cannot be called {BUILD}: that is who signs what is built")
        if REVIEW in names:
            raise ValueError(f"an environment cannot be called {REVIEW}: that is who signs what reviews say")
        known = [f"{secret}/{key}" for secret, keys in self.app.secrets.items() for key in keys]
        for request in self.ci.app.requests:
            if request.bearer and request.bearer not in known:
                raise ValueError(f"ci.app.requests: app.secrets has no {request.bearer}")
        self._approvers_can_approve()
        self._developers_are_people()
        self._sites_fit(names)
        return self

    def _sites_fit(self, names: list[str]) -> None:
        called = [site.name for site in self.sites]
        if len(set(called)) != len(called):
            raise ValueError(f"two sites share one name: {', '.join(called)}")
        ports: list[int] = []
        for site in self.sites:
            if isinstance(site, LocalSite):
                if list(site.local.environments) != names:
                    raise ValueError(f"site {site.name} must have one port for each of {', '.join(names)}")
                ports += (site.local.registry, site.local.git, *site.local.environments.values())
                continue
            if strange := set(site.environments) - set(names):
                raise ValueError(f"site {site.name}: there is no environment {', '.join(sorted(strange))}")
            if strange := set(site.signers) - set(self.signed_by):
                raise ValueError(f"site {site.name}: nobody signs as {', '.join(sorted(strange))}")
        if len(set(ports)) != len(ports):
            raise ValueError("a port is used twice")

    def _approvers_can_approve(self) -> None:
        # One key or one person under two names could stand for two people.
        names = (*self.signed_by, *(() if REVIEW in self.signed_by else (REVIEW,)))
        identities = [approver.identity.lower() for approver in self.approvers]
        if len(set(names)) != len(names) or len(set(identities)) != len(identities):
            raise ValueError("approvers must differ by name and identity from each other and other signers")
        logins = [approver.login.lower() for approver in self.approvers if approver.login]
        if len(set(logins)) != len(logins):
            raise ValueError(f"two approvers share one login: {', '.join(logins)}")
        for environment in self.environments:
            rule = environment.approval
            able, who = len(self.approvers), "approvers"
            if rule and rule.by_review:
                able, who = len(logins), "approvers with a login"
            if rule and rule.required > able:
                raise ValueError(
                    f"{environment.name} requires {rule.required} approvals, and there are {able} {who}"
                )

    def _developers_are_people(self) -> None:
        for field in ("name", "key"):
            seen = [getattr(one, field) for one in self.developers]
            if len(set(seen)) != len(seen):
                raise ValueError(f"two developers share one {field}: {', '.join(seen)}")
        # One person under two identities could make a commit and approve it.
        known = {one.name: one.identity for one in self.approvers}
        for one in self.developers:
            if known.get(one.name, one.identity).lower() != one.identity.lower():
                raise ValueError(f"{one.name} is an approver and a developer, under two identities")

    def environment(self, name: str) -> Environment:
        """The environment of that name, or BadInput that lists those there are."""
        for environment in self.environments:
            if environment.name == name:
                return environment
        raise BadInput(
            f"there is no environment {name!r}",
            f"one of: {', '.join(environment.name for environment in self.environments)} (see {FILE})",
        )

    @property
    def signed_by(self) -> tuple[str, ...]:
        """Everybody who signs: the build, each environment for its tests, each gate for what enters, each approver.

        Where an approval is a review, also who signs what the forge says of it.
        """
        gates = (one.gate for one in self.environments if one.guarded)
        reviews = [REVIEW] if any(e.approval and e.approval.by_review for e in self.environments) else []
        people = (a.name for a in self.approvers)
        return (BUILD, *(e.name for e in self.environments), *gates, *people, *reviews)

    def approval_signers(self, environment: Environment) -> tuple[str, ...]:
        """Whose keys approve what enters an environment, where that is asked for."""
        if environment.approval is None:
            return ()
        return (REVIEW,) if environment.approval.by_review else tuple(one.name for one in self.approvers)

    @property
    def by_tag(self) -> bool:
        """Whether what enters a guarded environment is a tag (release-branch), and no commit on the branch."""
        return self.strategy == "release-branch"

    @property
    def first(self) -> Environment:
        """The environment that a build enters."""
        return self.environments[0]

    def site(self, name: str | None = None) -> LocalSite | Site:
        """The site of that name, else of DELIVERY_SITE, else the first; BadInput lists those there are."""
        name = name or os.environ.get("DELIVERY_SITE") or self.sites[0].name
        for site in self.sites:
            if site.name == name:
                return site
        raise BadInput(
            f"there is no site {name!r}",
            f"--site or DELIVERY_SITE is one of: {', '.join(site.name for site in self.sites)} (see {FILE})",
        )


def hash_of(text: bytes | None) -> str:
    """The sha256 by which statements name a pipeline.yaml: that of its bytes, or of none."""
    return hashlib.sha256(text or b"").hexdigest()


def root() -> Path:
    """The checkout around the current folder: the nearest one upward that has a pipeline.yaml."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / FILE).is_file():
            return folder
    raise BadInput(f"no {FILE} in {here} or above it", "run this inside a checkout of the repository")


def load(folder: Path | None = None) -> Pipeline:
    """Read and check pipeline.yaml of the checkout; BadInput names file, line and field."""
    folder = folder or root()
    file = folder / FILE
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise BadInput(
            f"{file}: {error.strerror}", "restore it from Git: git checkout pipeline.yaml"
        ) from None
    except UnicodeDecodeError as error:
        raise BadInput(f"{file}: not UTF-8 text: {error.reason}", "mend that file") from None
    return parse(text, folder)


def parse(text: str, folder: Path) -> Pipeline:
    """The same from a text that is not written yet, as if it were the checkout's pipeline.yaml."""
    file = folder / FILE
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError

    try:
        data: Any = YAML().load(text)
    except (MarkedYAMLError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        what = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise BadInput(
            f"{file}{f':{mark.line + 1}' if mark else ''}: not YAML: {what}", "mend that line"
        ) from None
    if not isinstance(data, dict):
        raise BadInput(f"{file}:1: must be a mapping", "restore it from Git: git checkout pipeline.yaml")
    try:
        return Pipeline.model_validate(_plain(data), context={"root": folder})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        location = tuple(part for part in first["loc"] if part not in (_LOCAL, _TEAMS))
        where = ".".join(str(part) for part in location)
        message = first["msg"].removeprefix("Value error, ")
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        raise BadInput(
            f"{file}:{_line(data, location)}: {where + ': ' if where else ''}{message}{more}",
            "mend that line; the comments in the file say what belongs there",
        ) from None


def _plain(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: _plain(value) for key, value in data.items()}
    if isinstance(data, list):
        return [_plain(value) for value in data]
    return data


def _line(data: Any, location: tuple[str | int, ...]) -> int:
    line = 0
    for part in location:
        try:
            marks = data.lc
            line = (marks.key(part) if isinstance(data, dict) else marks.item(part))[0]
            data = data[part]
        except (AttributeError, KeyError, IndexError, TypeError):
            break
    return int(line) + 1
