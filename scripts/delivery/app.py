"""The blocks `app` and `ci` of pipeline.yaml: all that the pipeline knows of the app, in whatever language it is.

The words are those of Docker Compose and Kubernetes where they have one for it.
"""

from typing import Annotated, Any, Literal

from pydantic import Field

from delivery.fields import Model, Name, Port, RepositoryPath

HttpPath = Annotated[str, Field(pattern=r"^/\S*$")]
# A value of a chart, or a field of a JSON document: a.b.c.
Dotted = Annotated[str, Field(pattern=r"^[A-Za-z_][\w-]*(\.[A-Za-z_][\w-]*)*$")]
SecretKey = Annotated[str, Field(pattern=r"^[\w-][\w.-]*$")]
# One of app.secrets: SECRET/KEY.
SecretFile = Annotated[str, Field(pattern=r"^[a-z0-9-]+/[\w-][\w.-]*$")]
# A file of a container: in a folder, which is the container's own.
ContainerFile = Annotated[str, Field(pattern=r"^(/[\w-][\w.-]*){2,}$")]
# As compose has it: a folder, and options of the mount after a colon.
Tmpfs = Annotated[str, Field(pattern=r"^/[^:]*(:.+)?$")]
Command = Annotated[tuple[str, ...], Field(min_length=1)]

SECRETS = "/run/secrets"  # SECRETS/secret/key, as compose mounts them


class Fields(Model):
    """Where in the JSON that a replica answers are the three facts that the proof is about."""

    build: Dotted = "build"
    revision: Dotted = "revision"
    environment: Dotted = "environment"


class Version(Model):
    """Where a replica says what it is."""

    path: HttpPath
    fields_: Fields = Field(default=Fields(), alias="fields")


class App(Model):
    """The app as its container shows it, and what a local site makes for it."""

    port: Port
    ready: HttpPath
    version: Version
    secrets: dict[Name, Annotated[tuple[SecretKey, ...], Field(min_length=1)]] = Field(default_factory=dict)
    platform_images: dict[Name, Dotted] = Field(default_factory=dict)


class Check(Model):
    """A command that a commit must pass before its image is built."""

    name: Annotated[str, Field(min_length=1)]
    command: Command
    working_dir: RepositoryPath | None = None


class Container(Model):
    """How a container is run."""

    command: tuple[str, ...] = ()
    environment: dict[str, str] = Field(default_factory=dict)
    user: str | None = None
    read_only: bool = False
    tmpfs: tuple[Tmpfs, ...] = ()
    files: dict[ContainerFile, RepositoryPath] = Field(default_factory=dict)


class Service(Container):
    """A container that stands beside the app; the app reaches it by its name."""

    image: Annotated[str, Field(min_length=1)]


class Request(Model):
    """What is asked of the running app over HTTP, and the status that it must answer; `bearer` is sent as its token."""

    method: Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"] = "GET"
    path: HttpPath
    body: Any = Field(default=None, alias="json")
    bearer: SecretFile | None = None
    status: Annotated[int, Field(ge=100, le=599, strict=True)] = 200


class Init(Model):
    """What the app's image runs once before the app: its environment comes on top of the app's."""

    command: Command
    environment: dict[str, str] = Field(default_factory=dict)


class AppContainer(Container):
    """The app's container; `init` runs once before it, in one of its own."""

    read_only: bool = True
    tmpfs: tuple[Tmpfs, ...] = ("/tmp",)  # noqa: S108
    init: Init | None = None
    requests: tuple[Request, ...] = ()


class Questions(Model):
    """What `delivery ci` asks of a commit, without a cluster."""

    checks: tuple[Check, ...] = ()
    app: AppContainer = AppContainer()
    services: dict[Name, Service] = Field(default_factory=dict)
