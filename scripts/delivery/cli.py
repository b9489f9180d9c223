"""The verbs: their arguments and exit codes. No logic; what a verb needs is imported when it is called.

A package may bring more verbs by an entry point of the group `delivery.verbs`: the local platform does.
"""

import sys
import traceback
from dataclasses import asdict, dataclass
from enum import StrEnum
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from delivery.errors import INTERRUPTED, BadInput, DeliveryError, NotReached, PlatformError, Refused

if TYPE_CHECKING:
    from delivery.context import Context
    from delivery.pipeline import Environment, Pipeline

app = typer.Typer(
    name="delivery",
    help="Build an image once, carry that digest through the environments, and prove what runs.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


environment_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
app.add_typer(environment_app, name="environment", help="Add or remove an environment.")


class Format(StrEnum):
    """How facts are printed."""

    text = "text"
    json = "json"


@dataclass
class Chosen:
    """What was said before the verb."""

    site: str | None = None
    verbose: bool = False


AsFormat = Annotated[Format, typer.Option("--format", help="How facts are printed.")]
EnvironmentName = Annotated[str, typer.Argument(metavar="ENV", help="An environment of pipeline.yaml.")]
chosen = Chosen()


@app.callback()
def options(
    site: Annotated[
        str | None, typer.Option(envvar="DELIVERY_SITE", help="A site of pipeline.yaml; else its first one.")
    ] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show where an error comes from.")] = False,
) -> None:
    chosen.site, chosen.verbose = site, verbose


@app.command()
def build(
    number: Annotated[
        int | None,
        typer.Option(min=1, help="The build number; else BUILD_NUMBER, else the next one."),
    ] = None,
    format: AsFormat = Format.text,
) -> None:
    """Build and push the image of the newest commit that changed the app, once."""
    from delivery.build import image
    from delivery.show import report

    context = _context()
    built = image.build(context, number)
    if format is Format.json:
        report.write_json(report.built_document(built))
    else:
        report.print_built(context, built)


@app.command()
def deploy(
    digest: Annotated[str | None, typer.Option(help="The digest that `build` printed.")] = None,
    format: AsFormat = Format.text,
) -> None:
    """Ask the first environment for a built digest, and wait until its pods run it."""
    from delivery.verbs import deploy as verb

    _carried(verb.deploy(_context(), digest), format)


@app.command()
def promote(
    environment: EnvironmentName,
    digest: Annotated[str | None, typer.Option(help="Refuse unless it is this digest.")] = None,
    tag: Annotated[str | None, typer.Option(help="Refuse unless it is built from this Git tag.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would change and what is missing; write nothing.")
    ] = False,
    format: AsFormat = Format.text,
) -> None:
    """Ask an environment for the digest that was tested in the environment before it."""
    from delivery.show import report

    context, target = _of(environment)
    from delivery.verbs import promote as verb

    if not dry_run:
        _carried(verb.promote(context, target, digest, tag), format)
        return
    preview = verb.preview(context, target, digest)
    if format is Format.json:
        report.write_json(report.preview_document(preview))
    else:
        report.print_preview(preview)
    verb.insist(preview.environment, preview.decision)


@app.command("test")
def run_tests(
    environment: EnvironmentName,
    suite: Annotated[
        list[str] | None, typer.Option(help="Only this suite, repeatable; the evidence covers no other.")
    ] = None,
    format: AsFormat = Format.text,
) -> None:
    """Run an environment's suites, and attach signed evidence to its digest; PASSED exits 0, else 1."""
    from delivery.show import report

    context, target = _of(environment)
    from delivery.verbs import test as verb

    tested = verb.run(context, target, suite or ())
    if format is Format.json:
        report.write_json(report.tested_document(tested))
    else:
        report.print_tested(tested)
    verb.insist(context, tested)


@app.command()
def approve(
    environment: EnvironmentName,
    by: Annotated[
        str | None, typer.Option("--as", envvar="DELIVERY_APPROVER", help="An approver of pipeline.yaml.")
    ] = None,
    digest: Annotated[str | None, typer.Option(help="Refuse unless it is this digest.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Sign without a question at the terminal.")] = False,
    format: AsFormat = Format.text,
) -> None:
    """Show what would enter an environment, ask, and sign that it may, as exactly this change."""
    from delivery.show import report

    context, target = _of(environment)
    from delivery.verbs import approve as verb

    def agrees(asked: verb.Asked) -> bool:
        if format is Format.text:
            report.print_asked(asked)
        if yes or not sys.stdin.isatty():
            return True
        said = typer.confirm("Sign it?", err=True)
        if not sys.stderr.isatty():
            sys.stderr.write("\n")  # the end of the answer's line is on the terminal alone
        return said

    done = verb.run(context, target, by, digest, agrees)
    if format is Format.json:
        report.write_json({"schema": "delivery/approval/v1", **asdict(done)})
    else:
        report.print_approved(done)


@app.command()
def rollback(
    environment: EnvironmentName,
    digest: Annotated[str | None, typer.Option(help="A digest that ran here; else the one before.")] = None,
    reason: Annotated[str, typer.Option(help="Why it cannot wait for the end of a freeze.")] = "",
    format: AsFormat = Format.text,
) -> None:
    """Ask an environment for a release that already ran there, with one more commit."""
    context, target = _of(environment)
    from delivery.verbs import rollback as verb

    _carried(verb.rollback(context, target, digest, reason), format)


@app.command()
def verify(
    environment: Annotated[
        str | None, typer.Argument(metavar="[ENV]", help="One environment; else all of them.")
    ] = None,
    format: AsFormat = Format.text,
) -> None:
    """Prove from the pods what runs: PROVEN exits 0, MISMATCH 1, UNKNOWN 3."""
    context, one = _of(environment) if environment else (_context(), None)
    asked = (one,) if one else context.environments
    from delivery.proof import observe
    from delivery.show import report

    proofs = observe.proofs(context, asked)
    if format is Format.json:
        report.write_json(report.proof_document(context.site, proofs))
    else:
        report.print_proofs(proofs)
    judge(proofs)


@app.command()
def status(format: AsFormat = Format.text) -> None:
    """Show what runs where, and what each environment could take next or what is missing for it."""
    from delivery.show import report
    from delivery.verbs import report as verb

    context = _context()
    found = verb.status(context)
    if format is Format.json:
        report.write_json(report.status_document(context.site, found))
    else:
        report.print_status(found)


@app.command(name="report")
def report_(
    output: Annotated[
        Path | None, typer.Option(help="Where the page goes; else report.html in the site's state folder.")
    ] = None,
    format: AsFormat = Format.text,
) -> None:
    """Write the proof, the tests and the trail as one page; its exit code is that of `verify`."""
    from delivery.show import page, report
    from delivery.verbs import report as verb

    context = _context()
    found = verb.report(context)
    document = report.report_document(context.site, found)
    if format is Format.json:
        report.write_json(document)
    else:
        file = output or context.site.state / "report.html"
        page.write(document, file)
        report.print_proofs(found.status.proofs)
        print(f"the page: {file}")
    judge(found.status.proofs)


@app.command()
def history(
    limit: Annotated[int, typer.Option(min=1, help="How many, newest first.")] = 20,
    format: AsFormat = Format.text,
) -> None:
    """Show the commits that changed what runs where, and the emergencies."""
    from delivery.show import report
    from delivery.verbs import report as verb

    found = verb.history(_context(), limit)
    if format is Format.json:
        report.write_json(report.history_document(found))
    else:
        report.print_history(found)


@app.command()
def generate(
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; exit 1 and name the files that are stale.")
    ] = False,
) -> None:
    """Write what follows from pipeline.yaml: Applications, projects, namespaces, what the cluster demands."""
    from delivery.verbs import generate as verb

    _print(verb.run(_pipeline(), check))


@app.command()
def policy(
    image: Annotated[
        list[str] | None,
        typer.Option(help="A pinned image that may run beside what the chart names, repeatable."),
    ] = None,
    cluster: Annotated[
        str | None, typer.Option("--context", help="Only for the cluster of this context of the site.")
    ] = None,
) -> None:
    """Print what the cluster is to refuse by itself, for `kubectl apply --server-side -f -`."""
    from delivery.verbs import policy as verb

    _print(verb.run(_context(), image or (), cluster))


@environment_app.command("add")
def add_environment(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What the new environment is called.")],
    after: Annotated[str, typer.Option(help="The environment that it takes its digests from.")],
    requires: Annotated[
        list[str] | None,
        typer.Option(help="A suite that must pass there, repeatable; else those of the one before."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the difference; write nothing.")] = False,
) -> None:
    """Add an environment: pipeline.yaml, its values file, and everything that follows. Prints the difference."""
    from delivery.verbs import environment

    _print(environment.add(_pipeline(), name, after, requires or (), dry_run))


@environment_app.command("remove")
def remove_environment(
    name: EnvironmentName,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the difference; write nothing.")] = False,
) -> None:
    """Remove an environment, unless one after it would lose its lock. Prints the difference."""
    from delivery.verbs import environment

    _print(environment.remove(_pipeline(), name, dry_run))


@app.command()
def adopt(
    name: Annotated[
        str | None, typer.Option(help="What the app is called from now on; else as the Git repository.")
    ] = None,
    registry: Annotated[
        str | None,
        typer.Option(help="Where images go, host and path; else the registry of the Git server's forge."),
    ] = None,
    git: Annotated[
        str | None, typer.Option(help="The Git repository, https or ssh; else that of origin.")
    ] = None,
    site_name: Annotated[
        str | None, typer.Option(help="What pipeline.yaml calls the site; else the organisation.")
    ] = None,
    owner: Annotated[
        str | None, typer.Option(help="Who holds the copyright in LICENSE; else the organisation.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would change; write nothing.")
    ] = False,
    format: AsFormat = Format.text,
) -> None:
    """Make a fresh fork your own: name, chart, Applications, site, licence. Staged for you to commit."""
    from delivery.show import adopted as show
    from delivery.show import report
    from delivery.verbs import adopt as verb

    done = verb.run(_pipeline(), verb.Wanted(name, registry, git, site_name, owner), dry_run)
    if format is Format.json:
        report.write_json({"schema": "delivery/adopted/v1", **asdict(done), "dry_run": dry_run})
    else:
        show.print_adopted(done, dry_run)


@app.command()
def ci() -> None:
    """Ask what CI asks: does it compile, build, run and answer, and does the chart render?"""
    from delivery.verbs import ci as verb

    verb.run(_context())


def main() -> None:
    """Run one verb; every error is one line, one hint and one exit code."""
    try:
        _more_verbs()
        code = app(standalone_mode=False)
        if code == INTERRUPTED:  # typer turns Ctrl-C into an exit code of its own
            raise KeyboardInterrupt
        sys.exit(code if isinstance(code, int) else 0)
    except DeliveryError as error:
        _fail(error.message, error.hint, error.exit_code)
    except KeyboardInterrupt:
        _fail("interrupted", "run the same command again to continue", INTERRUPTED)
    except typer.TyperException as error:
        _usage(error)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)
    except Exception as error:
        if told := _of_docker(error):
            _fail(told.message, told.hint, told.exit_code)
        _fail(
            f"{type(error).__name__}: {' '.join(str(error).split())[:300] or 'no reason given'}",
            "this is a bug in delivery; `delivery -v …` shows where",
            PlatformError.exit_code,
        )


def _more_verbs() -> None:
    for one in entry_points(group="delivery.verbs"):
        try:
            register = one.load()
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] != one.module.partition(".")[0]:
                raise  # the package is there, and something that it needs is not
            continue  # scripts/local was deleted; the installed metadata still names it
        register(app)


def _of_docker(error: Exception) -> PlatformError | None:
    """What Docker says where nobody expected it: the machine's, and no bug. Loads nothing that is not there."""
    daemon = sys.modules.get("delivery.parts.daemon")
    return daemon.typed(error) if daemon else None


def _pipeline() -> "Pipeline":
    from delivery import pipeline

    return pipeline.load()


def _context() -> "Context":
    from delivery import context

    return context.load(chosen.site)


def _print(text: str) -> None:
    if text:
        print(text)


def _of(environment: str) -> "tuple[Context, Environment]":
    """The context and an environment of it; a typing error is found before anything else is."""
    from delivery import context, pipeline

    found = pipeline.load()
    target = found.environment(environment)
    return context.of(found, chosen.site), target


def judge(proofs: Any) -> None:
    """Anything but PROVEN ends the verb with its exit code."""
    from delivery.proof import decide as proof
    from delivery.show import report

    against = [one.facts.environment for one in proofs if one.verdict is not proof.Verdict.PROVEN]
    verdict = report.worst(proofs)
    if verdict is proof.Verdict.MISMATCH:
        raise Refused(
            f"MISMATCH: not everything runs as Git asks ({', '.join(against)})", "the reasons are above"
        )
    if verdict is proof.Verdict.UNKNOWN:
        raise NotReached(
            f"UNKNOWN: not everything could be read ({', '.join(against)})",
            "the reasons are above; delivery doctor looks at a local platform",
        )


def _carried(done: Any, format: Format) -> None:
    from delivery.show import report

    if format is Format.json:
        report.write_json({"schema": "delivery/promotion/v1", **asdict(done)})
    else:
        report.print_carried(done)


def _usage(error: Any) -> None:
    message = error.format_message() if hasattr(error, "format_message") else str(error)
    if type(error).__name__ == "NoArgsIsHelpError":
        message = "no verb given"
    path = error.ctx.command_path if getattr(error, "ctx", None) else "delivery"
    _fail(message, f"{path} --help", BadInput.exit_code)


def _fail(message: str, hint: str, code: int) -> None:
    if chosen.verbose:
        traceback.print_exc()
    sys.stderr.write(f"error: {message}\nhint: {hint}\n")
    sys.exit(code)
