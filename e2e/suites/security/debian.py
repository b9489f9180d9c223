"""Which Debian packages of the image have a newer version in the security suite: its own apt is asked.

It is asked with the image's own sources, in a throw-away container on this host's Docker daemon: the host
may be no Debian at all, and the pods have no way out. apt's judgement counts, not ours.
"""

import re
from collections.abc import Mapping

from delivery.parts import certificates
from e2e.suites.outcome import unknown
from e2e.suites.security import box
from e2e.suites.target import Target

SECONDS = 150
# The pin makes the security suite's version the candidate, also where another suite has a newer one.
_SCRIPT = """
command -v apt-get >/dev/null && command -v apt >/dev/null || { echo "E: there is no apt in it" >&2; exit 127; }
export LC_ALL=C APT_CONFIG=/gate-apt.conf
# Any index that does not come is an error: apt would go on with what it has.
apt-get -qq -o APT::Update::Error-Mode=any -o Acquire::Retries=1 -o Acquire::Languages=none \\
  -o Acquire::http::Timeout=20 -o Acquire::https::Timeout=20 update || exit
exec apt -qq -o APT::Default-Release="$1" list --upgradable
"""
# apt reads this before its own configuration: an image that knows better is heard.
_CONFIGURATION = b'Acquire::https::CAInfo "/gate-ca.crt";\n'
_ROW = re.compile(r"(?P<name>\S+)/(?P<suites>\S+) (?P<newest>\S+) \S+ \[upgradable from: (?P<old>\S+)\]")


def pending(target: Target, codename: str, installed: Mapping[str, str]) -> list[str]:
    """The packages that wait for a security update; unknown, with apt's own reason, where it cannot say."""
    if not installed:
        unknown("the image has no Debian packages that could be compared")
    if not codename:
        unknown("the image does not say which release of Debian it is")
    suite = f"{codename}-security"
    files = {"gate-apt.conf": _CONFIGURATION, "gate-ca.crt": certificates.system().read_bytes()}
    ended = box.run(target, ["/bin/sh", "-c", _SCRIPT, "sh", suite], files, SECONDS)
    if ended.code:
        unknown(f"the image's apt could not list {suite}: {reason(ended.errors)}")
    return waiting(ended.output)


def waiting(listed: str) -> list[str]:
    """The security updates out of what `apt list --upgradable` says."""
    found = []
    for line in filter(None, map(str.strip, listed.splitlines())):
        row = _ROW.fullmatch(line)
        if row is None:
            unknown(f"the image's apt said what nobody understands: {line[:200]}")
        if any(suite.endswith("-security") for suite in row["suites"].split(",")):
            found.append(f"{row['name']} {row['old']} -> {row['newest']}")
    return found


def reason(said: str) -> str:
    """Why apt gave up: its first error."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    errors = [line[2:].strip() for line in lines if line.startswith("E:")]
    return next(iter([*errors, *reversed(lines)]), "it said nothing")[:200]
