"""What CI asks of a commit, answered without a cluster: check the code, build, run, ask over HTTP, render.

What is asked is written in pipeline.yaml, `ci:`; nothing here knows the app.
"""

import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from delivery.app import Check, Request
from delivery.build import image
from delivery.context import Context
from delivery.desired.manifests import ANY_DIGEST, STAND_INS
from delivery.errors import BadInput, Unknown
from delivery.parts import git, helm
from delivery.parts.daemon import one_line
from delivery.pipeline import Pipeline
from delivery.progress import phase
from delivery.proof import observe
from delivery.verbs.containers import Containers, Started, removed_after
from delivery.wait import Failed, Pending, Reached, until

_CHECK_SECONDS, _READY_SECONDS = 900.0, 60.0
_BUILD = 1


def run(context: Context) -> None:
    """Ask every question about the last commit, in order, and stop at the first that is answered with no."""
    repository = git.checkout(context.checkout)
    commit = repository.commit("HEAD")
    for one in context.pipeline.ci.checks:
        with phase(one.name) as progress:
            progress.update(shlex.join(one.command))
            check(context.checkout, one)
    renders(context.pipeline)
    tag = f"{context.pipeline.chart.release}-ci:{commit[:12]}"
    with phase("Image builds") as progress:
        image.prepare(context, repository, commit, _BUILD).build(tag, progress.update)
    with removed_after(context, tag) as containers:
        with phase("Container runs") as progress:
            app = _started(context, containers, progress.update)
        with phase("Service is reachable") as progress, _http(app.url) as http:
            _ready(context, http, app, progress.update)
            _ask(context, http, commit, containers.secret)


def renders(pipeline: Pipeline) -> None:
    """Return when the checkout's chart lints and renders for each environment, also before anything was deployed."""
    chart, instead = pipeline.chart, _unset(pipeline)
    for environment in pipeline.environments:
        with phase(f"Helm lints and renders {environment.name}"):
            folder, values = pipeline.root / chart.path, pipeline.root / environment.values
            helm.lint(folder, values, instead)
            helm.template(folder, values, chart.release, environment.namespace, instead)


def check(root: Path, one: Check) -> None:
    """Run one command of pipeline.yaml in the checkout; BadInput with what it said when it fails.

    All of that goes to stderr as well: a compiler says more than one line.
    """
    folder = root / (one.working_dir or "")
    own = Path(sys.executable).parent  # as in the virtual environment, whether it is activated or not
    path = f"{own}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    again = shlex.join(one.command)
    again = f"cd {shlex.quote(one.working_dir)} && {again}" if one.working_dir else again
    try:
        done = subprocess.run(
            one.command,
            cwd=folder,
            env={**os.environ, "PATH": path},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_CHECK_SECONDS,
            check=False,
        )
    except FileNotFoundError as error:
        raise BadInput(
            f"{one.name}: there is no {error.filename}", f"install it, or mend ci.checks: {again}"
        ) from None
    except OSError as error:
        raise BadInput(
            f"{one.name}: {error.strerror}: {error.filename}", f"mend ci.checks: {again}"
        ) from None
    except subprocess.TimeoutExpired:
        raise BadInput(f"{one.name} did not end within {_CHECK_SECONDS:.0f} s", f"run it: {again}") from None
    if done.returncode:
        said = done.stdout.decode("utf-8", "replace").strip()
        print(said, file=sys.stderr)
        raise BadInput(
            f"{one.name}: {one_line(said) or f'exit {done.returncode}'}", f"mend it, and try: {again}"
        )


def _unset(pipeline: Pipeline) -> dict[str, str]:
    """What deploy, promote and up write into the values."""
    return STAND_INS | dict.fromkeys(pipeline.app.platform_images.values(), ANY_DIGEST)


def _started(context: Context, containers: Containers, said: Callable[[str], None]) -> Started:
    for name, service in context.pipeline.ci.services.items():
        said(f"starting {name}")
        containers.start_service(name, service)
    app = context.pipeline.ci.app
    if app.init:
        said(f"running {' '.join(app.init.command)}")
        environment = app.environment | app.init.environment
        containers.run_once(app.model_copy(update={"command": app.init.command, "environment": environment}))
    said("starting the app")
    return containers.start_app(app, context.pipeline.app.port)


@contextmanager
def _http(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url, timeout=10, trust_env=False) as http:
        yield http


def _ready(context: Context, http: httpx.Client, app: Started, said: Callable[[str], None]) -> None:
    path = context.pipeline.app.ready

    def look() -> Reached[None] | Failed | Pending:
        if isinstance(state := app.look(), Failed):
            return state
        try:
            answer = http.get(path)
        except httpx.HTTPError as error:
            return Pending(f"{type(error).__name__} from {http.base_url}")
        return Reached(None) if answer.status_code == 200 else Pending(_short(answer))

    hint = "mend the app, or app.port and app.ready in pipeline.yaml"
    until(f"GET {path} answers 200", look, _READY_SECONDS, hint, said=said)


def _ask(context: Context, http: httpx.Client, commit: str, secret: Callable[[str], str]) -> None:
    app = context.pipeline.app
    version = _send(http, Request(path=app.version.path))
    said = observe.said(app.version, version.content)
    if isinstance(said, Unknown):
        raise BadInput(said.reason, "mend the app, or say in pipeline.yaml where it is: app.version")
    for what, found, built in (("revision", said.revision, commit), ("build", said.build, str(_BUILD))):
        if found != built:
            raise BadInput(
                f"{app.version.path} says {what} {found}, built was {built}",
                f"let the Dockerfile take ARG {what.upper()}, and hand it to the app: ENV {what.upper()}=…",
            )
    for request in context.pipeline.ci.app.requests:
        _send(http, request, secret(request.bearer) if request.bearer else None)


def _send(http: httpx.Client, wanted: Request, token: str | None = None) -> httpx.Response:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        answer = http.request(wanted.method, wanted.path, json=wanted.body, headers=headers)
    except httpx.HTTPError as error:
        raise BadInput(f"{wanted.method} {wanted.path}: {type(error).__name__}", "mend the app") from None
    if answer.status_code != wanted.status:
        raise BadInput(
            f"{wanted.method} {wanted.path} answers {_short(answer)}, not {wanted.status}", "mend the app"
        )
    return answer


def _short(answer: httpx.Response) -> str:
    return f"{answer.status_code}: {' '.join(answer.text.split())[:200]}"
