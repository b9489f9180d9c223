"""A site: where it all lives. A Git repository, an image repository, a cluster for each environment, signers.

pipeline.yaml names sites. A remote one stands there whole; of a local one pipeline.yaml says the ports, and
`delivery up` writes the rest, in the very same form, into the site's state folder.
"""

import os
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, PrivateAttr, ValidationInfo, model_validator

from delivery.errors import BadInput, PlatformError
from delivery.fields import Model, Name, Port

LOCAL_GIT = "git.local"  # what a local site's Git server is called inside its cluster
FILE = "site.yaml"  # in the state folder of a local site, written by `delivery up`

Variable = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
ImageName = Annotated[str, Field(pattern=r"^[a-z0-9.-]+(:[0-9]+)?(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)+$")]
GitUrl = Annotated[str, Field(pattern=r"^(https?://|ssh://|file://|[\w.-]+@[\w.-]+:|/)\S+$")]
HttpUrl = Annotated[str, Field(pattern=r"^https?://[^/\s]+\S*$")]
User = Annotated[str, Field(pattern=r"^[A-Za-z0-9:._@/-]+$")]  # as the API server calls somebody
Kms = Annotated[str, Field(pattern=r"^(awskms|gcpkms|azurekms|hashivault|env)://\S+$")]


def _in_checkout(path: Path, info: ValidationInfo) -> Path:
    return (info.context or {}).get("root", Path()) / path.expanduser()


# A file or a folder; what is not absolute is meant from the checkout on.
CheckoutPath = Annotated[Path, AfterValidator(_in_checkout)]


class GitServer(Model):
    """The repository that the verbs write and Argo CD reads.

    Without `credentials` git's own helpers are asked, or DELIVERY_GIT_TOKEN is the password where it is set.
    """

    url: GitUrl
    seen_as: GitUrl | None = None  # its address inside the cluster, where that differs
    credentials: CheckoutPath | None = None  # a file of git's credential store
    _checkout: Path | None = PrivateAttr(None)

    @property
    def checkout(self) -> Path | None:
        """A checkout of it on this machine, where one is known."""
        return self._checkout

    def seen_from(self, checkout: Path) -> "GitServer":
        """The same: what the checkout has of it need not come over the network once more."""
        made = self.model_copy()
        made._checkout = checkout
        return made

    @property
    def for_argocd(self) -> str:
        """The address that Argo CD's Applications name."""
        return self.seen_as or self.url


class ImageRepository(Model):
    """Where the image is pushed to and pulled from."""

    name: ImageName  # as pods pull it; a digest is always added
    reached: ImageName | None = None  # as this machine reaches it, where that differs
    plain_http: bool = False
    ca: CheckoutPath | None = None  # the authority of its certificate, where the system does not know it
    docker_config: CheckoutPath | None = None  # the folder with docker's config.json; else docker's own

    @property
    def here(self) -> str:
        """Its name as this machine reaches it."""
        return self.reached or self.name

    @property
    def host(self) -> str:
        """The registry as this machine reaches it."""
        return self.here.partition("/")[0]

    @property
    def path(self) -> str:
        """Its name inside the registry."""
        return self.here.partition("/")[2]

    def at(self, digest: str) -> str:
        """An image of it as programs on this machine name it."""
        return f"{self.here}@{digest}"

    @property
    def log_in(self) -> str:
        """What to do about a login that is missing: a hint."""
        # One that is reached by another name is the local site's.
        return "make the login again: delivery up" if self.reached else f"docker login {self.host}"


class Forge(Model):
    """Where pull requests are: what kind of forge, its address, and the repository there.

    The token is in DELIVERY_FORGE_TOKEN, and nowhere else.
    """

    kind: Literal["github", "gitlab", "gitea"]  # gitea: Forgejo, too
    url: HttpUrl  # of the forge, as people open it
    repository: Annotated[
        str, Field(pattern=r"^[\w.-]+(/[\w.-]+)+$")
    ]  # OWNER/NAME; of GitLab with all its groups

    @property
    def page(self) -> str:
        """The page of the repository."""
        return f"{self.url.rstrip('/')}/{self.repository}"


class ArgoCD(Model):
    """Where the Applications are: by default in the cluster of their environment."""

    namespace: Name = "argocd"
    context: str | None = None


class Place(Model):
    """Where one environment lives: a context of the kubeconfig, or the cluster that this very pod is in."""

    context: str | None = None  # the deployer's, or somebody's who may do as much
    in_cluster: bool = False
    tester: str | None = None  # the context of whoever looks inside during a test, where that is another one
    url: HttpUrl | None = None  # where its users, and so the suites, reach it
    destination: Name | None = (
        None  # what Argo CD calls the cluster, where it is not the one that Argo CD is in
    )
    writer: User | None = None  # who Argo CD is in that cluster, where `argocd cluster add` did not make it

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.context and self.in_cluster:
            raise ValueError("a context or in_cluster, not both")
        return self

    @property
    def writes(self) -> str | None:
        """The user that Argo CD is there, or None for its own ServiceAccount."""
        # `argocd cluster add` makes this one.
        return self.writer or (
            "system:serviceaccount:kube-system:argocd-manager" if self.destination else None
        )


class CommitKey(Model):
    """The OpenPGP key that signs commits: the certificate, and the key in a file or in env://VARIABLE."""

    public: CheckoutPath
    key: Annotated[str, Field(pattern=r"^env://[A-Za-z_][A-Za-z0-9_]*$")] | CheckoutPath | None = None


class Signer(Model):
    """What somebody signs with, and what proves it."""

    public: CheckoutPath
    key: Kms | CheckoutPath | None = None  # a KMS, env://VARIABLE, or a file; none where only others sign
    password: Variable | None = None  # the environment variable with the password of the key
    password_file: CheckoutPath | None = None
    commits: CommitKey | None = None  # a gate's: it signs the commits that enter
    repository: ImageName | None = None  # where its statements are; else below the image's, under its name
    docker_config: CheckoutPath | None = None  # its own login; else the site's


class Site(Model):
    """One site, whole."""

    name: Name
    git: GitServer
    image: ImageRepository
    forge: Forge | None = None  # else that of git.url, where it is github.com or gitlab.com
    argocd: ArgoCD = ArgoCD()
    controllers: tuple[
        User, ...
    ] = ()  # of the team's own that write in guarded namespaces: external-secrets, …
    kubeconfig: CheckoutPath | None = None  # else KUBECONFIG, else ~/.kube/config
    environments: dict[Name, Place] = Field(default_factory=dict)
    signers: dict[Name, Signer] = Field(default_factory=dict)
    arguments: dict[Variable, str] = Field(
        default_factory=dict
    )  # of the build, beside those that every build gets
    images: dict[str, str] = Field(
        default_factory=dict
    )  # those that the local platform brings, by their short names
    made_here: bool = False  # by `delivery up`

    @property
    def state(self) -> Path:
        """The git-ignored folder (0700) with this site's logs, locks and keys; DELIVERY_STATE moves it."""
        return state(self.root, self.name)

    def place(self, environment: str) -> Place:
        """Where an environment lives; BadInput when the site does not say."""
        found = self.environments.get(environment)
        if found is None or not (found.context or found.in_cluster):
            raise BadInput(
                f"site {self.name} names no cluster for {environment}",
                f"say under sites in pipeline.yaml which context {environment} is in, or in_cluster: true",
            )
        return found

    def url(self, environment: str) -> str:
        """Where users reach an environment; BadInput when the site does not say."""
        found = self.environments.get(environment)
        if found is None or found.url is None:
            raise BadInput(
                f"site {self.name} names no url for {environment}",
                f"say under sites in pipeline.yaml where users reach {environment}: url",
            )
        return found.url.rstrip("/")

    def signer(self, name: str) -> Signer:
        """What `name` signs with; PlatformError when the site does not say."""
        if name not in self.signers:
            raise PlatformError(f"site {self.name} names no key of {name}", self.remedy("signers"))
        return self.signers[name]

    def statements_of(self, name: str) -> ImageRepository:
        """Where the statements are that `name` signs, so that a registry can say who writes there."""
        signer, image = self.signers.get(name), self.image
        if signer is None or signer.repository is None:
            reached = image.reached and f"{image.reached}/{name}"
            return image.model_copy(update={"name": f"{image.name}/{name}", "reached": reached})
        host, _, path = signer.repository.partition("/")
        same = (
            image.reached and host == image.name.partition("/")[0]
        )  # which this machine knows by another name
        reached = f"{image.host}/{path}" if same else None
        return image.model_copy(update={"name": signer.repository, "reached": reached})

    def logged_in(self, repository: ImageRepository, name: str) -> ImageRepository:
        """A repository as `name` reaches it: with its own login, where it has one."""
        signer = self.signers.get(name)
        if signer is None or signer.docker_config is None:
            return repository
        return repository.model_copy(update={"docker_config": signer.docker_config})

    @property
    def look(self) -> str:
        """Where to look when something of the site does not answer: a hint."""
        return (
            "look what is missing: delivery doctor"
            if self.made_here
            else f"is it as {self.name} under sites in pipeline.yaml says?"
        )

    def remedy(self, key: str) -> str:
        """What to do about something that is wrong with the site: a hint."""
        return (
            "make it again: delivery up" if self.made_here else f"see {key} of {self.name} in pipeline.yaml"
        )


class Ports(Model):
    """The kind cluster of a local site, and its ports on this machine."""

    cluster: Name
    registry: Port
    git: Port
    environments: dict[Name, Port]


class LocalSite(Model):
    """A site that `delivery up` makes on this machine."""

    name: Name
    local: Ports

    @property
    def state(self) -> Path:
        """The git-ignored folder (0700) with its keys, logins and kubeconfig; DELIVERY_STATE moves it."""
        return state(self.root, self.name)

    def load(self) -> Site:
        """The site as `delivery up` made it; PlatformError when it did not."""
        from ruamel.yaml import YAML
        from ruamel.yaml.error import YAMLError

        file = self.state / FILE
        try:
            data = YAML(typ="safe", pure=True).load(file.read_text(encoding="utf-8"))
            return Site.model_validate(data, context={"root": self.root})
        except (OSError, ValueError, YAMLError) as error:
            missing = isinstance(error, FileNotFoundError)
            raise PlatformError(
                f"site {self.name} is not up: {file} {'is missing' if missing else 'cannot be read'}",
                "start it: delivery up",
            ) from None


def state(root: Path, name: str) -> Path:
    """A site's state folder."""
    base = os.environ.get("DELIVERY_STATE")
    return (Path(base).absolute() if base else root / ".delivery") / name
