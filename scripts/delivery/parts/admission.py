"""What the cluster's admission said, as one line and a hint: the same for kubectl, Argo CD and events."""

import re

_DIGEST = re.compile(r"@(sha256:[0-9a-f]{64})")
_DOWN = 'failed calling webhook "policy.sigstore.dev"'
_EVIDENCE = 'admission webhook "policy.sigstore.dev" denied the request'
_PINNED = re.compile(r"ValidatingAdmissionPolicy '[\w-]+' with binding '[\w-]+' denied request: (.*)")
_SAYS = re.compile(r"the evidence says (.+?), not PASSED in (\w+)")

# What policy-controller says of evidence that it does not take -> what is wrong with it. The first that fits.
_REASONS = {
    "no matching policies": "it is neither the app nor a pinned image of the platform",
    "no matching subject digest": "the evidence that hangs on it is about another digest",
    "do not match threshold": "there is no evidence about it that stage's key signed",
    "no matching attestations": "there is no evidence about it",
}


def refusal(message: str) -> tuple[str, str] | None:
    """(what was refused and why, hint) when admission refused; None for a message about something else."""
    text = " ".join(message.split())
    if found := _PINNED.search(text):
        return found[1], "let a digest in through its gate: delivery promote ENV"
    if _DOWN in text:
        return (
            "prod starts nothing new: policy-controller does not answer, and without it nothing is let in",
            "look at it: kubectl -n cosign-system get pods; what runs in prod goes on running",
        )
    if _EVIDENCE not in text:
        return None
    digest = _DIGEST.search(text)
    return (
        f"the cluster refused {digest[1] if digest else 'an image'}: {_reason(text)}",
        "test it where it comes from, then promote it: delivery test stage",
    )


def denial(message: str) -> tuple[str, str] | None:
    """The same, but only when asking again cannot help: admission answered, and its answer was no."""
    found = refusal(message)
    return None if found is None or _DOWN in " ".join(message.split()) else found


def _reason(text: str) -> str:
    if said := _SAYS.search(text):
        return f"its evidence says {said[1]}, not PASSED in {said[2]}"
    known = (reason for sign, reason in _REASONS.items() if sign in text)
    return next(known, _DIGEST.split(text)[-1].lstrip(": ")[:300])
