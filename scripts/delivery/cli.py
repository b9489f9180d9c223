"""The verbs: their arguments and exit codes. No logic; what a verb needs is imported when it is called.

A package may bring more verbs by an entry point of the group `delivery.verbs`: the local platform does.
"""

import gc
import sys
import traceback
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
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


class TableFormat(StrEnum):
    """How a table is printed."""

    text = "text"
    json = "json"
    csv = "csv"


class ProofFormat(StrEnum):
    """How a proof is printed."""

    text = "text"
    json = "json"
    markdown = "markdown"


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
    version: Annotated[
        str | None, typer.Option(help="In release-branch, the last environment's: v1.1; else the next one.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would change and what is missing; write nothing.")
    ] = False,
    pull_request: Annotated[
        bool, typer.Option("--pull-request", help="Ask on the site's forge instead, for people to merge it.")
    ] = False,
    format: AsFormat = Format.text,
) -> None:
    """Ask an environment for the digest that was tested in the environment before it."""
    from delivery.show import report

    if pull_request and (dry_run or tag):
        raise BadInput("--pull-request goes with neither --dry-run nor --tag", "leave one out")
    context, target = _of(environment)
    if pull_request:
        _proposed(context, target, digest, format)
        return
    from delivery.verbs import promote as verb

    if not dry_run:
        _carried(verb.promote(context, target, digest, tag, version), format)
        return
    preview = verb.preview(context, target, digest)
    if format is Format.json:
        report.write_json(report.preview_document(preview))
    else:
        report.print_preview(preview)
    verb.insist(preview.environment, preview.decision)


@app.command()
def enter(
    environment: EnvironmentName,
    version: Annotated[
        str | None, typer.Option(help="In release-branch: the one that request/VERSION asks for.")
    ] = None,
    format: AsFormat = Format.text,
) -> None:
    """Let in what people asked for with Git alone: gate it, sign it, and wait until it runs."""
    context, target = _of(environment)
    from delivery.verbs import enter as verb

    _carried(verb.enter(context, target, version), format)


@app.command()
def check(
    ref: Annotated[
        str, typer.Argument(metavar="[REF]", help="The proposal: a branch or a commit of this checkout.")
    ] = "HEAD",
    format: Annotated[
        ProofFormat, typer.Option("--format", help="How it is printed; markdown is for a comment.")
    ] = ProofFormat.text,
) -> None:
    """Show what a proposal would change where, and whether it may enter: yes exits 0, no 1, UNKNOWN 3."""
    from delivery.show import markdown, report
    from delivery.verbs import check as verb

    context = _context()
    found = verb.check(context, ref)
    document = report.checked_document(context.site, found)
    if format is ProofFormat.json:
        report.write_json(document)
    elif format is ProofFormat.markdown:
        print(markdown.checked(document))
    else:
        report.print_checked(document)
    verb.insist(found)


@app.command("test")
def run_tests(
    environment: EnvironmentName,
    suite: Annotated[
        list[str] | None, typer.Option(help="Only this suite, repeatable; the evidence covers no other.")
    ] = None,
    junit: Annotated[
        Path | None, typer.Option(help="Also write how each test ended there, as JUnit's XML.")
    ] = None,
    format: AsFormat = Format.text,
) -> None:
    """Run an environment's suites, and attach signed evidence to its digest; PASSED exits 0, else 1."""
    from delivery.show import report

    context, target = _of(environment)
    from delivery.verbs import test as verb

    tested = verb.run(context, target, suite or (), junit)
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
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be signed; sign nothing.")
    ] = False,
    shown: Annotated[
        Path | None,
        typer.Option(
            help="With --dry-run: keep there what is shown. Without: refuse unless it is still that."
        ),
    ] = None,
    from_review: Annotated[
        bool,
        typer.Option(
            "--from-review", help="Sign what the reviewers of the merged pull request said: CI does."
        ),
    ] = False,
    format: AsFormat = Format.text,
) -> None:
    """Show what would enter an environment, ask, and sign that it may, as exactly this change."""
    from delivery.show import report

    if from_review and (digest or dry_run or shown):
        raise BadInput("--from-review goes with none of --digest, --dry-run and --shown", "leave them out")
    context, target = _of(environment)
    if from_review:
        _reviewed(context, target, format)
        return
    from delivery.verbs import approve as verb

    if dry_run:
        asked = verb.look(context, target, by, digest, shown)
        if format is Format.json:
            report.write_json(asked.document)
        else:
            report.print_asked(asked)
        return

    def agrees(asked: verb.Asked) -> bool:
        if format is Format.text:
            report.print_asked(asked)
        if yes or not sys.stdin.isatty():
            return True
        said = typer.confirm("Sign it?", err=True)
        if not sys.stderr.isatty():
            sys.stderr.write("\n")  # the end of the answer's line is on the terminal alone
        return said

    done = verb.run(context, target, by, digest, agrees, shown)
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
    format: Annotated[
        ProofFormat, typer.Option("--format", help="How it is printed; markdown is for a forge's pages.")
    ] = ProofFormat.text,
) -> None:
    """Prove from the pods what runs: PROVEN exits 0, MISMATCH 1, UNKNOWN 3."""
    context, one = _of(environment) if environment else (_context(), None)
    asked = (one,) if one else context.environments
    from delivery.verbs import verify as verb

    proofs = verb.verify(context, asked)
    from delivery.show import markdown, report

    if format is ProofFormat.json:
        report.write_json(report.proof_document(context.site, proofs))
    elif format is ProofFormat.markdown:
        print(markdown.proofs(report.proof_document(context.site, proofs)))
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
    serve: Annotated[
        bool, typer.Option("--serve", help="Keep the page live for this machine's browsers, until Ctrl-C.")
    ] = False,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="With --serve: where; else a port that is free.")
    ] = None,
    format: AsFormat = Format.text,
) -> None:
    """Write the pipeline, its proof and the trail as one page; its exit code is that of `verify`."""
    from delivery.show import page, report
    from delivery.verbs import report as verb

    context = _context()
    if serve:
        if output or format is Format.json:
            raise BadInput("a page that is served is not written", "leave out --output and --format")
        from delivery.show import live

        live.run(context, port or 0)
        return
    if port is not None:
        raise BadInput("--port is for a page that is served", "add --serve")
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
    environment: Annotated[
        str | None, typer.Argument(metavar="[ENV]", help="One environment; else all of them.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many changes, newest first.")] = 20,
    since: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"], help="Nothing older, in UTC."),
    ] = None,
    metrics: Annotated[
        bool, typer.Option("--metrics", help="DORA's four figures of ENV; else of the last environment.")
    ] = False,
    days: Annotated[int, typer.Option(min=1, max=3650, help="Of how many days the figures are.")] = 30,
    no_clusters: Annotated[
        bool, typer.Option("--no-clusters", help="Ask Git and the registry alone: no emergencies or freezes.")
    ] = False,
    format: Annotated[
        TableFormat, typer.Option("--format", help="How it is printed; csv is for a spreadsheet.")
    ] = TableFormat.text,
) -> None:
    """Show what changed what runs where, each line verified, and the emergencies: BROKEN exits 1, UNKNOWN 3."""
    context, one = _of(environment) if environment else (_context(), None)
    from delivery.show import history as show
    from delivery.show import out
    from delivery.verbs import history as verb

    if metrics:
        if format is TableFormat.csv:
            raise BadInput(
                "the figures are no table", "--format text or json; without --metrics there is csv"
            )
        told = verb.metrics(context, days, one, not no_clusters)
        if format is TableFormat.json:
            out.write_json(show.metrics_document(told))
        else:
            show.print_metrics(told)
        verb.insist(told.left_out, told.emergencies)
        return
    found = verb.history(context, limit, one, since and since.replace(tzinfo=UTC), not no_clusters)
    if format is TableFormat.json:
        out.write_json(show.document(found))
    elif format is TableFormat.csv:
        show.write_csv(found)
    else:
        show.print_history(found)
    verb.insist(found.trail, found.emergencies, found.lifts)


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
def ci(
    chart: Annotated[
        bool, typer.Option("--chart", help="Ask of the chart alone; no site is needed.")
    ] = False,
) -> None:
    """Ask what CI asks: does it compile, build, run and answer, and does the chart render?"""
    from delivery.verbs import ci as verb

    if chart:
        verb.renders(_pipeline())
    else:
        verb.run(_context())


def main() -> None:
    """Run one verb; every error is one line, one hint and one exit code."""
    gc.set_threshold(
        100_000
    )  # a verb is short, and what it loads stays: the usual 700 cost it a tenth of its time
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


def _proposed(context: "Context", target: "Environment", digest: str | None, format: Format) -> None:
    from delivery.show import markdown, report
    from delivery.verbs import propose as verb

    done = verb.propose(
        context, target, lambda found: markdown.checked(report.checked_document(context.site, found)), digest
    )
    if format is Format.json:
        report.write_json({"schema": "delivery/proposal/v1", **asdict(done)})
    else:
        report.print_proposal(done)


def _reviewed(context: "Context", target: "Environment", format: Format) -> None:
    from delivery.show import report
    from delivery.verbs import review as verb

    done = verb.run(context, target)
    if format is Format.json:
        report.write_json({"schema": "delivery/reviewed/v1", **asdict(done)})
    else:
        report.print_reviewed(done)


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
