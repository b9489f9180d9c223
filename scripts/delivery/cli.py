"""The verbs: their arguments and exit codes. No logic; what a verb needs is imported when it is called."""

import sys
import traceback
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from delivery.errors import INTERRUPTED, BadInput, DeliveryError, NotReached, PlatformError, Refused

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


AsFormat = Annotated[Format, typer.Option("--format", help="How facts are printed.")]
EnvironmentName = Annotated[str, typer.Argument(metavar="ENV", help="An environment of pipeline.yaml.")]


@app.callback()
def options(
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show where an error comes from.")] = False,
) -> None:
    global _verbose
    _verbose = verbose


@app.command()
def up() -> None:
    """Bring up the local cluster with its registry, Git server and Argo CD; repeat it freely."""
    from local.up import up as run

    run(_pipeline().cluster())


@app.command()
def down(
    force: Annotated[
        bool, typer.Option("--force", help="Also a cluster that another checkout made.")
    ] = False,
) -> None:
    """Remove the local cluster and everything that `up` made."""
    from local.up import down as run

    run(_pipeline().cluster(), force)


@app.command()
def doctor() -> None:
    """Look at each part of the platform, and say how to mend what is wrong."""
    from local.up import doctor as run

    from delivery.show import report

    checks = run(_pipeline().cluster())
    report.print_checks(checks)
    wrong = [check for check in checks if not check.ok]
    if wrong:
        raise PlatformError(f"{len(wrong)} of {len(checks)} checks failed", wrong[0].hint)


@app.command()
def pin(
    images: Annotated[
        bool, typer.Option("--images", help="Only the images' digests, not the tools' checksums.")
    ] = False,
) -> None:
    """Ask registries and publishers what is there today, and write it into scripts/local/versions.yaml."""
    from local import pinning

    from delivery.show import report

    report.print_pinned(pinning.run(_pipeline().root, images_only=images))


@app.command()
def demo() -> None:
    """From nothing to the same digest in every environment, and the proof; leaves the cluster running."""
    from local import demo as story

    pipeline = _pipeline()
    _judge(story.run(pipeline, pipeline.cluster()))


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

    pipeline = _pipeline()
    built = image.build(pipeline, pipeline.cluster(), number)
    if format is Format.json:
        report.write_json(report.built_document(built))
        return
    said = "built" if built.new else "was built before"
    print(f"build {built.build} of commit {built.revision[:12]} {said}")
    print(f"{pipeline.image.repository}@{built.digest}")


@app.command()
def deploy(
    digest: Annotated[str | None, typer.Option(help="The digest that `build` printed.")] = None,
    format: AsFormat = Format.text,
) -> None:
    """Ask the first environment for a built digest, and wait until its pods run it."""
    from delivery.verbs import promote as promotion

    pipeline = _pipeline()
    _promoted(promotion.deploy(pipeline, pipeline.cluster(), digest), format)


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
    pipeline = _pipeline()
    target = pipeline.environment(environment)
    from delivery.verbs import promote as promotion

    if dry_run:
        _previewed(promotion.preview(pipeline, pipeline.cluster(), target, digest), format)
        return
    _promoted(promotion.promote(pipeline, pipeline.cluster(), target, digest, tag), format)


@app.command("test")
def run_tests(
    environment: EnvironmentName,
    suite: Annotated[
        list[str] | None, typer.Option(help="Only this suite, repeatable; the evidence covers no other.")
    ] = None,
    format: AsFormat = Format.text,
) -> None:
    """Run an environment's gate suites, and attach signed evidence to its digest; PASSED exits 0, else 1."""
    pipeline = _pipeline()
    target = pipeline.environment(environment)
    from delivery.show import report
    from delivery.verbs import test as testing

    tested = testing.run(pipeline, pipeline.cluster(), target, suite or ())
    if format is Format.json:
        report.write_json(report.tested_document(tested))
    else:
        report.print_tested(tested)
    if tested.judgement.result != "PASSED":
        raise Refused(
            f"{environment} {tested.judgement.result}: build {tested.build} goes no further",
            f"the reasons are above; the log: {pipeline.cluster().state}/tests/{environment}/log",
        )


@app.command()
def approve(
    environment: EnvironmentName,
    by: Annotated[
        str | None, typer.Option("--as", envvar="DELIVERY_APPROVER", help="An approver of pipeline.yaml.")
    ] = None,
    digest: Annotated[str | None, typer.Option(help="Refuse unless it is this digest.")] = None,
    format: AsFormat = Format.text,
) -> None:
    """Sign that a tested digest may enter an environment, as exactly this change."""
    from dataclasses import asdict

    pipeline = _pipeline()
    target = pipeline.environment(environment)
    from delivery.show import report
    from delivery.verbs import approve as approving

    done = approving.run(pipeline, pipeline.cluster(), target, by, digest)
    if format is Format.json:
        report.write_json({"schema": "delivery/approval/v1", **asdict(done)})
        return
    said = "approves" if done.new else "has approved"
    print(f"{done.approver} {said} build {done.build}, {done.digest}, for {environment}")


@app.command()
def rollback(
    environment: EnvironmentName,
    digest: Annotated[str | None, typer.Option(help="A digest that ran here; else the one before.")] = None,
    format: AsFormat = Format.text,
) -> None:
    """Ask an environment for a digest that already ran there, with one more commit."""
    pipeline = _pipeline()
    target = pipeline.environment(environment)
    from delivery.verbs import promote as promotion

    _promoted(promotion.rollback(pipeline, pipeline.cluster(), target, digest), format)


@app.command()
def verify(
    environment: Annotated[
        str | None, typer.Argument(metavar="[ENV]", help="One environment; else all of them.")
    ] = None,
    format: AsFormat = Format.text,
) -> None:
    """Prove from the pods what runs: PROVEN exits 0, MISMATCH 1, UNKNOWN 3."""
    pipeline = _pipeline()
    chosen = [pipeline.environment(environment)] if environment else list(pipeline.environments)
    cluster = pipeline.cluster()
    from delivery.proof import observe
    from delivery.show import report

    proofs = observe.proofs(pipeline, cluster, chosen)
    if format is Format.json:
        report.write_json(report.proof_document(cluster, proofs))
    else:
        report.print_proofs(proofs)
    _judge(proofs)


@app.command()
def status(format: AsFormat = Format.text) -> None:
    """Show what runs where, and what each environment could take next or what is missing for it."""
    from delivery.gate import gather
    from delivery.proof import observe
    from delivery.show import report

    pipeline = _pipeline()
    cluster = pipeline.cluster()
    proofs = observe.proofs(pipeline, cluster, pipeline.environments)
    ahead = gather.outlook(pipeline, cluster, proofs)
    if format is Format.json:
        report.write_json(report.status_document(cluster, proofs, ahead))
    else:
        report.print_status(proofs, ahead)


@app.command(name="report")
def report_(
    output: Annotated[
        Path | None, typer.Option(help="Where the page goes; else report.html in the cluster's state folder.")
    ] = None,
    format: AsFormat = Format.text,
) -> None:
    """Write the proof, the tests and the trail as one page; its exit code is that of `verify`."""
    from datetime import UTC, datetime
    from itertools import islice

    from delivery.desired import change
    from delivery.gate import gather
    from delivery.parts import git
    from delivery.proof import observe
    from delivery.show import page, report

    pipeline = _pipeline()
    cluster = pipeline.cluster()
    at = datetime.now(UTC)
    proofs = observe.proofs(pipeline, cluster, pipeline.environments)
    ahead = gather.outlook(pipeline, cluster, proofs)
    tests = gather.tests(pipeline, cluster, proofs)
    with git.clone(cluster.git_url, pipeline.git.branch, bare=True) as repository:
        entries = list(islice(change.history(repository), 100))
    document = report.report_document(cluster, proofs, ahead, tests, entries, at)
    if format is Format.json:
        report.write_json(document)
    else:
        file = output or cluster.state / "report.html"
        page.write(document, file)
        report.print_proofs(proofs)
        print(f"the page: {file}")
    _judge(proofs)


@app.command()
def history(
    limit: Annotated[int, typer.Option(min=1, help="How many, newest first.")] = 20,
    format: AsFormat = Format.text,
) -> None:
    """Show the commits that changed what runs where."""
    from itertools import islice

    from delivery.desired import change
    from delivery.parts import git
    from delivery.show import report

    pipeline = _pipeline()
    with git.clone(pipeline.cluster().git_url, pipeline.git.branch, bare=True) as repository:
        entries = list(islice(change.history(repository), limit))
    if format is Format.json:
        report.write_json(report.history_document(entries))
    else:
        report.print_history(entries)


@app.command()
def generate(
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; exit 1 and name the files that are stale.")
    ] = False,
) -> None:
    """Write what follows from pipeline.yaml: Applications, projects, namespaces, what the cluster demands."""
    from delivery.verbs import generate as generating

    _print(generating.run(_pipeline(), check))


@app.command()
def policy(
    image: Annotated[
        list[str] | None,
        typer.Option(help="A pinned image that may run beside what the chart names, repeatable."),
    ] = None,
) -> None:
    """Print what the cluster is to refuse by itself, for `kubectl apply --server-side -f -`."""
    from delivery.verbs import policy as policies

    pipeline = _pipeline()
    _print(policies.run(pipeline, pipeline.cluster(), image or ()))


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
def ci() -> None:
    """Ask what CI asks: does it compile, build, run and answer, and does the chart render?"""
    from delivery.verbs import ci as questions

    questions.run(_pipeline())


def main() -> None:
    """Run one verb; every error is one line, one hint and one exit code."""
    try:
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


_verbose = False


def _of_docker(error: Exception) -> PlatformError | None:
    """What Docker says where nobody expected it: the machine's, and no bug. Loads nothing that is not there."""
    daemon = sys.modules.get("delivery.parts.daemon")
    return daemon.typed(error) if daemon else None


def _pipeline() -> Any:
    from delivery import pipeline

    return pipeline.load()


def _print(text: str) -> None:
    if text:
        print(text)


def _judge(proofs: Any) -> None:
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
            "the reasons are above; delivery doctor looks at the platform",
        )


def _promoted(done: Any, format: Format) -> None:
    from dataclasses import asdict

    from delivery.show import report

    if format is Format.json:
        report.write_json({"schema": "delivery/promotion/v1", **asdict(done)})
        return
    before = "" if not done.new else f" (before: {done.before[:19]})"
    print(f"{done.environment} runs build {done.build}, {done.digest}{before}")


def _previewed(preview: Any, format: Format) -> None:
    """What a promotion would do; a gate that would refuse it ends the verb as the promotion would."""
    from delivery.show import report
    from delivery.verbs import promote as promotion

    if format is Format.json:
        report.write_json(report.preview_document(preview))
    else:
        report.print_preview(preview)
    promotion.insist(preview.environment, preview.decision)


def _usage(error: Any) -> None:
    message = error.format_message() if hasattr(error, "format_message") else str(error)
    if type(error).__name__ == "NoArgsIsHelpError":
        message = "no verb given"
    path = error.ctx.command_path if getattr(error, "ctx", None) else "delivery"
    _fail(message, f"{path} --help", BadInput.exit_code)


def _fail(message: str, hint: str, code: int) -> None:
    if _verbose:
        traceback.print_exc()
    sys.stderr.write(f"error: {message}\nhint: {hint}\n")
    sys.exit(code)
