"""BuildKit, through the docker command's buildx: in the daemon itself, whatever builder the user has chosen.

The result is one manifest without attestations beside it (our own provenance is signed and attached later), so
that the digest of its push is the image's and not that of an index around it.
"""

import os
import re
import shutil
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import cache
from typing import IO

from delivery.errors import BadInput, PlatformError
from delivery.parts.daemon import endpoint, logins, one_line
from delivery.parts.heard import heard

CHOICE = "DELIVERY_BUILDER"
SILENCE = 900.0
_OLDEST = (0, 10)  # the first that knows --provenance and --sbom
_KEPT = 200  # lines of the log that an error may be told from
_RULE = "------"  # above and below what the failed step said
_NOISE = re.compile(
    r"^ERROR: |failed to (build|solve)(?: with [^:]*)?: |rpc error: code = \w+ desc = "
    r"|failed to create LLB definition: "
)


class Unsolved(Exception):
    """The build failed; its text is the reason, in one line."""


def chosen() -> bool:
    """Whether BuildKit builds: where buildx is there, unless DELIVERY_BUILDER says classic."""
    choice = os.environ.get(CHOICE, "auto")
    if choice not in ("auto", "buildkit", "classic"):
        raise BadInput(f"{CHOICE}={choice} is unknown", f"{CHOICE} is auto, buildkit or classic")
    if choice == "buildkit" and not _buildx():
        raise PlatformError(
            f"{CHOICE}=buildkit, and docker has no buildx from {'.'.join(map(str, _OLDEST))} on",
            "install docker-buildx (Docker's own packages: docker-buildx-plugin), or unset it",
        )
    return choice == "buildkit" or (choice == "auto" and _buildx())


def build(
    context: bytes,
    tag: str,
    arguments: Mapping[str, str],
    log: Callable[[str], None],
    target: str,
    labels: Mapping[str, str],
) -> None:
    """Build a tar file into the daemon's own images; Unsolved says why it did not work."""
    # A context's own builder is the daemon itself, and bears the context's name. A builder of the user's in a
    # container would have to send every image back, and does not know our base images.
    command = ["docker", "buildx", "build", "--builder", endpoint().context, "--load", "--progress=plain"]
    command += ["--provenance=false", "--sbom=false", "--tag", tag]
    command += [word for name, value in arguments.items() for word in ("--build-arg", f"{name}={value}")]
    command += [word for name, value in labels.items() for word in ("--label", f"{name}={value}")]
    command += ["--target", target] if target else []
    # The daemon's own platform, as with the classic builder; the base images were pulled for that one.
    environment = {name: value for name, value in os.environ.items() if name != "DOCKER_DEFAULT_PLATFORM"}
    said: deque[str] = deque(maxlen=_KEPT)
    with subprocess.Popen(
        [*command, "-"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=environment,
    ) as process:
        if process.stdin is None or process.stderr is None:
            raise AssertionError("both were asked for")
        stdin, stderr = process.stdin, process.stderr
        threading.Thread(target=_feed, args=(stdin, context), daemon=True).start()
        try:
            for line in heard(lambda: _lines(stderr), SILENCE):
                said.append(line)
                log(line)
            process.wait(SILENCE)
        except (TimeoutError, subprocess.TimeoutExpired):
            raise Unsolved(f"docker buildx has said nothing for {SILENCE:.0f} s") from None
        finally:
            process.kill()
            with suppress(OSError):
                stdin.close()
    if process.returncode:
        text = reason(said)
        raise logins(RuntimeError(text)) or Unsolved(text)


def reason(said: Iterable[str]) -> str:
    """Why a build failed, from the end of its log: the step, the last that it said, and BuildKit's own word."""
    lines = [line.rstrip() for line in said]
    error = next((line for line in reversed(lines) if line.startswith("ERROR: ")), "")
    step = next((line for line in reversed(lines) if line.startswith(" > ")), "")
    block: list[str] = []
    if step:
        after = lines[len(lines) - lines[::-1].index(step) :]
        block = [line for line in after[: after.index(_RULE)] if line.strip()] if _RULE in after else []
    words = [
        re.sub(r"^ > (\[[^]]*\] )?|:$", "", step),
        re.sub(r"^\d+\.\d+ ", "", block[-1]) if block else "",
        _NOISE.sub("", error or "".join(lines[-1:])),
    ]
    return one_line(": ".join(filter(None, words))) or "it said nothing"


@cache
def _buildx() -> bool:
    if not shutil.which("docker"):
        return False
    try:
        done = subprocess.run(
            ["docker", "buildx", "version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    found = re.search(r"buildx v?(\d+)\.(\d+)", done.stdout)
    return done.returncode == 0 and found is not None and (int(found[1]), int(found[2])) >= _OLDEST


def _feed(stdin: IO[bytes], context: bytes) -> None:
    with suppress(OSError, ValueError):  # it ended before it had read everything: its own words say why
        stdin.write(context)
        stdin.close()


def _lines(stderr: IO[bytes]) -> Iterator[str]:
    for line in stderr:
        if text := line.decode("utf-8", "replace").rstrip():
            yield text
