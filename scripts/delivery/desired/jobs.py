"""What CI runs for each environment, in order: the verbs, and the variables that the keys of each are in."""

from collections.abc import Iterable

from delivery.pipeline import BUILD, Environment, Pipeline
from delivery.site import Signer, Site

APPROVER = "DELIVERY_APPROVER"  # who approves, where pipeline.yaml names several
_HERE = "env://"  # a key that is in an environment variable


def steps(environment: Environment) -> tuple[str, ...]:
    """The verbs of one environment with their arguments.

    Where more than one has to approve, CI is none of them: each approves by hand, and CI goes on after them.
    """
    name, approval = environment.name, environment.approval
    if not environment.source:
        return ("ci", "build", "deploy", f"test {name}")
    approve: tuple[str, ...] = ()
    if approval and approval.by_review:
        approve = (f"approve {name} --from-review",)
    elif approval and approval.required == 1:
        approve = (f"approve {name} --yes",)
    return (*approve, f"promote {name}", f"test {name}")


def variables(pipeline: Pipeline, environment: Environment, step: str) -> tuple[str, ...]:
    """The environment variables that one of the verbs takes its keys from, on the team's own site.

    None for a key that is in a file or in a KMS, and none at all while pipeline.yaml has no site of the team's own.
    """
    verb = step.partition(" ")[0]
    signers = {
        "build": [BUILD],
        "test": [environment.name],
        "promote": [environment.gate] if environment.guarded else [],
        "approve": pipeline.approval_signers(environment),
    }.get(verb, [])
    site = next((one for one in pipeline.sites if isinstance(one, Site)), None)
    known = [site.signers[name] for name in signers if site and name in site.signers]
    return tuple(
        dict.fromkeys(
            [*([APPROVER] if verb == "approve" and "--from-review" not in step else []), *_named(known)]
        )
    )


def _named(signers: Iterable[Signer]) -> Iterable[str]:
    for one in signers:
        for key in (one.key, one.commits.key if one.commits else None):
            if isinstance(key, str) and key.startswith(_HERE):
                yield key.removeprefix(_HERE)
        if one.password:
            yield one.password
