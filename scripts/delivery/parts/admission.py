"""What the cluster's admission said, as one line and a hint: the same for kubectl, Argo CD and events."""

import re

from delivery.pipeline import BUILD

_DIGEST = re.compile(r"@(sha256:[0-9a-f]{64})")
_DOWN = 'failed calling webhook "policy.sigstore.dev"'
_EVIDENCE = 'admission webhook "policy.sigstore.dev" denied the request'
_PINNED = re.compile(r"ValidatingAdmissionPolicy '[\w-]+' with binding '[\w-]+' denied request: (.*)")
_SAYS = re.compile(r"the evidence says (.+?), not PASSED in ([\w-]+)")
_BUILT = re.compile(r"the provenance says that (\S+ built \S+), not that delivery built (\S+)")
_NOBODY = "no environment"  # as policy/evidence.yaml says it
_ASKS = re.compile(rf"namespace (\S+) asks for evidence of ({_NOBODY}|[\w-]+)")
_MISSING = re.compile(r"missing there: (\w+(?:, \w+)*)")
_SIGNER = re.compile(r"for authority ([\w-]+) for")

# What policy-controller says of evidence that it does not take -> what is wrong with it. The first that fits.
_REASONS = {
    "no matching policies": "it is neither the app nor a pinned image of the platform",
    "no matching subject digest": "the evidence that hangs on it is about another digest",
    "do not match threshold": "there is no evidence about it that {signers} key signed",
    "no matching attestations": "there is no evidence about it",
}


def refusal(message: str) -> tuple[str, str] | None:
    """(what was refused and why, hint) when admission refused; None for a message about something else."""
    text = " ".join(message.split())
    if found := _PINNED.search(text):
        return found[1], "let a digest in through its gate: delivery promote ENV"
    if _DOWN in text:
        return (
            "nothing new is let in: policy-controller does not answer, and without it no evidence can be read",
            "look at it: kubectl -n cosign-system get pods; what runs goes on running",
        )
    if _EVIDENCE not in text:
        return None
    digest = _DIGEST.search(text)
    return f"the cluster refused {digest[1] if digest else 'an image'}: {_reason(text)}", _hint(text)


def denial(message: str) -> tuple[str, str] | None:
    """The same, but only when asking again cannot help: admission answered, and its answer was no."""
    found = refusal(message)
    return None if found is None or _DOWN in " ".join(message.split()) else found


def _hint(text: str) -> str:
    if "provenance" in _missing(text):
        return "let in what delivery built, and promote it from the first environment on: delivery build"
    return f"test it where it comes from, then promote it: delivery test {' or '.join(_sources(text))}"


def _missing(text: str) -> list[str]:
    """What the namespace asks for and the image has not, as the message tells; empty where it does not."""
    found = _MISSING.search(text)
    return found[1].split(", ") if found else []


def _reason(text: str) -> str:
    asked, missing = _ASKS.search(text), _missing(text)
    if asked and asked[2] == _NOBODY:
        return f"no evidence counts in namespace {asked[1]}: pipeline.yaml has no environment there"
    if "provenance" in missing and (built := _BUILT.search(text)):
        return f"its provenance says that {built[1]}, not that delivery built {built[2]}"
    if asked and ("provenance" in missing or (missing and "evidence" not in missing)):
        only = "" if "evidence" in missing else f", only evidence of {asked[2]}"
        return f"in {asked[1]} it has no {' and no '.join(missing)}{only}"
    for said in _SAYS.finditer(text):
        if asked is None or said[2] == asked[2]:
            return f"its evidence says {said[1]}, not PASSED in {said[2]}"
    signers = " or ".join(f"{name}'s" for name in _sources(text))
    known = (reason.format(signers=signers) for sign, reason in _REASONS.items() if sign in text)
    return next(known, _DIGEST.split(text)[-1].lstrip(": ")[:300])


def _sources(text: str) -> list[str]:
    """Whose evidence was asked for, as the message tells: the environments before the one that refused."""
    if (asked := _ASKS.search(text)) and asked[2] != _NOBODY:
        return [asked[2]]
    found = [*_SIGNER.findall(text), *(said[2] for said in _SAYS.finditer(text))]
    return [one for one in dict.fromkeys(found) if one != BUILD] or ["ENV"]
