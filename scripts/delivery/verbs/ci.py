"""What CI asks of a commit, answered without a cluster: compile, build, run, ask over HTTP, render."""

import secrets
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from delivery.context import Context
from delivery.errors import BadInput, PlatformError
from delivery.parts import docker, git, helm, tar
from delivery.parts.daemon import failing
from delivery.progress import phase
from delivery.wait import Failed, Pending, Reached, until

_APP, _DATABASE_USER, _SECONDS = "65532:65532", "999:999", 90.0
_ANY_DIGEST = f"sha256:{'0' * 64}"
# What deploy, promote and up write into the values; any well-formed digest shows that the chart is right.
_UNSET = {
    "image.repository": "registry.example/app",
    "image.tag": "1",
    "image.digest": _ANY_DIGEST,
    "postgresql.image.digest": _ANY_DIGEST,
    "rates.image.digest": _ANY_DIGEST,
}


def run(context: Context) -> None:
    """Ask every question about the last commit, in order, and stop at the first that is answered with no."""
    repository = git.checkout(context.checkout)
    commit = repository.commit("HEAD")
    with phase("Compiles") as progress:
        progress.update(f"{compile_all(context, repository)} files")
    with phase("Imports"):
        _imports(context)
    for environment in context.pipeline.environments:
        with phase(f"Helm lints and renders {environment.name}"):
            chart, values = (
                context.checkout / context.pipeline.chart.path,
                context.checkout / environment.values,
            )
            helm.lint(chart, values, _UNSET)
            helm.template(chart, values, context.pipeline.chart.release, environment.namespace, _UNSET)
    image = f"{context.pipeline.chart.release}-ci:{commit[:12]}"
    with phase("Image builds") as progress:
        arguments = {**context.site.arguments, "VERSION": "0.0.0", "BUILD": "1"}
        arguments |= {"REVISION": commit, "SOURCE": context.site.git.for_argocd, "CREATED": ""}
        folder = repository.archive(f"{commit}:{context.pipeline.image.context}")
        docker.build(folder, image, arguments, progress.update)
    with _beside(context) as stack:
        with phase("Container runs"):
            stack.start_database_and_rates()
            stack.migrate(image)
            url = stack.serve(image)
        with phase("Service is reachable"):
            _ask(url, commit)


def compile_all(context: Context, repository: git.Repository) -> int:
    """Compile every Python file that Git has, warnings as errors; how many there are."""
    files = repository.run("ls-files", "-z", "*.py").split("\0")
    names = [name for name in files if name and (context.checkout / name).is_file()]
    for name in names:
        try:
            with warnings.catch_warnings(action="error"):
                compile((context.checkout / name).read_bytes(), name, "exec", dont_inherit=True)
        except (SyntaxError, ValueError) as error:
            line = getattr(error, "lineno", None)
            raise BadInput(
                f"{name}{f':{line}' if line else ''}: does not compile: {error}", "mend it"
            ) from None
    return len(names)


def _imports(context: Context) -> None:
    code = "import manual_app.app, manual_app.migrate, delivery.cli, delivery.verbs.promote, delivery.proof.observe"
    done = subprocess.run(
        [sys.executable, "-B", "-c", code],
        cwd=context.checkout / context.pipeline.image.context,
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=False,
    )
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise BadInput(f"an import fails: {reason}", f"{sys.executable} -c '{code}'")


def _ask(url: str, commit: str) -> None:
    with httpx.Client(base_url=url, timeout=10, trust_env=False) as http:

        def ready() -> Reached[None] | Pending:
            try:
                answer = http.get("/readyz")
            except httpx.HTTPError as error:
                return Pending(f"{type(error).__name__} from {url}")
            return Reached(None) if answer.status_code == 200 else Pending(answer.text[:200])

        until("the container is ready", ready, 30, "run it by hand: manual-app/README.md")
        order = {"customer": "ci", "item": "book", "quantity": 3, "unit_price": "10.00", "currency": "USD"}
        for what, answer, status in (
            ("GET /version", http.get("/version"), 200),
            ("POST /orders", http.post("/orders", json=order), 201),
            ("GET /orders", http.get("/orders"), 200),
        ):
            if answer.status_code != status:
                raise BadInput(f"{what} answers {answer.status_code}: {answer.text[:200]}", "mend the app")
        said = http.get("/version").json().get("revision")
        if said != commit:
            raise BadInput(
                f"/version says revision {said}, built was {commit}", "see ARG REVISION in the Dockerfile"
            )


class _Stack:
    """The app's container and what it needs, on a Docker network of their own."""

    def __init__(self, context: Context, client: Any, name: str) -> None:
        self._context = context
        self._client = client
        self._name = name

    def start_database_and_rates(self) -> None:
        images = self._context.site.images
        settings = {
            "PGDATA": "/var/lib/postgresql/data/pgdata",
            "POSTGRES_USER": "manual_app",
            "POSTGRES_DB": "manual_app",
            "POSTGRES_PASSWORD_FILE": "/ci/password",
        }
        owned = "uid=999,gid=999,mode=0700"
        database = self._create(
            "postgresql",
            images["postgresql"],
            user=_DATABASE_USER,
            environment=settings,
            tmpfs={"/var/lib/postgresql/data": owned, "/var/run/postgresql": owned, "/tmp": "mode=1777"},  # noqa: S108
        )
        script = self._context.checkout / self._context.pipeline.chart.path / "charts/rates/files/rates.py"
        files = {"password": secrets.token_urlsafe(24).encode(), "rates.py": script.read_bytes()}
        database.put_archive("/ci", tar.pack(files, 0o444))
        rates = self._create("rates", images["python"], ["python3", "-B", "-u", "/ci/rates.py"], user=_APP)
        database.start()
        rates.start()

    def migrate(self, image: str) -> None:
        container = self._app("migrate", image, ["python", "-m", "manual_app.migrate"])
        container.start()
        code = container.wait(timeout=_SECONDS)["StatusCode"]
        if code:
            raise BadInput(f"the migration exits with {code}: {_last(container)}", "mend the migration")

    def serve(self, image: str) -> str:
        container = self._app("app", image, None, ports={"8080/tcp": ("127.0.0.1", None)})
        container.start()

        def published() -> Reached[str] | Failed | Pending:
            container.reload()
            if container.status == "exited":
                return Failed(_last(container))
            ports = container.ports.get("8080/tcp")
            return Reached(f"http://127.0.0.1:{ports[0]['HostPort']}") if ports else Pending(container.status)

        return until("the container runs", published, 30, "mend the app")

    def remove(self) -> None:
        label = {"label": f"delivery.ci={self._name}"}
        for container in self._client.containers.list(all=True, filters=label):
            container.remove(force=True, v=True)
        for network in self._client.networks.list(filters=label):
            network.remove()
        for volume in self._client.volumes.list(filters=label):
            volume.remove(force=True)

    def _app(self, role: str, image: str, command: list[str] | None, **more: Any) -> Any:
        environment = {
            "APP_ENVIRONMENT": "dev",
            "DATABASE_HOST": f"{self._name}-postgresql",
            "DATABASE_PASSWORD_FILE": "/ci/password",
            "RATES_URL": f"http://{self._name}-rates:8080",
        }
        restricted = {"read_only": True, "cap_drop": ["ALL"], "tmpfs": {"/tmp": "mode=1777"}}  # noqa: S108
        return self._create(role, image, command, environment=environment, **restricted, **more)

    def _create(self, role: str, image: str, command: list[str] | None = None, **more: Any) -> Any:
        return self._client.containers.create(
            image,
            command,
            name=f"{self._name}-{role}",
            network=self._name,
            labels={"delivery.ci": self._name},
            volumes={self._name: {"bind": "/ci", "mode": "rw" if role == "postgresql" else "ro"}},
            security_opt=["no-new-privileges"],
            **more,
        )


@contextmanager
def _beside(context: Context) -> Iterator[_Stack]:
    client = docker.client(seconds=120)
    name = f"{context.pipeline.chart.release}-ci-{secrets.token_hex(4)}"
    stack = _Stack(context, client, name)
    try:
        with failing("docker", PlatformError, "is Docker well? docker info"):
            client.networks.create(name, labels={"delivery.ci": name})
            client.volumes.create(name, labels={"delivery.ci": name})
            yield stack
    finally:
        stack.remove()
        client.close()


def _last(container: Any) -> str:
    lines = container.logs(tail=5).decode("utf-8", "replace").strip().splitlines()
    return lines[-1][:300] if lines else "it said nothing"
