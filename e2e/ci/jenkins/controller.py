"""A Jenkins of one job: it begins builds of a workspace's Jenkinsfile, and hands on what a person says."""

import fcntl
import functools
import hashlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from local import paths

_HERE = Path(__file__).parent
_SECONDS = 1500.0  # one build, with all that it may have to wait for
_OPENS = [
    f"--add-opens=java.base/java.{name}=ALL-UNNAMED" for name in ("lang", "util")
]  # Groovy 2.4 on Java 17


def unfit() -> str:
    """Why the Jenkinsfile cannot be run on this machine; empty when it can."""
    missing = [name for name in ("java", "mvn") if not shutil.which(name)]
    return f"{' and '.join(missing)} must be installed to run the Jenkinsfile" if missing else ""


@functools.cache
def _jars() -> tuple[Path, ...]:
    """JenkinsPipelineUnit and Groovy by Maven, each with the checksum that it was pinned with."""
    lines = (_HERE / "jars.sha256").read_text(encoding="ascii").splitlines()
    pinned = {name: checksum for checksum, name in (line.split() for line in lines)}
    folder = paths.cache("jenkins", hashlib.sha256("\n".join(lines).encode()).hexdigest()[:12])

    def wrong() -> list[str]:
        there = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.glob("*.jar")}
        return sorted(name for name in pinned | there if pinned.get(name) != there.get(name))

    if wrong():
        shutil.rmtree(folder, ignore_errors=True)
        command: list[str | Path] = ["mvn", "--quiet", "--batch-mode", "--file", _HERE / "pom.xml"]
        command += ["dependency:copy-dependencies", f"-DoutputDirectory={folder}", "-DincludeScope=runtime"]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL, timeout=_SECONDS)
    assert not wrong(), f"not what was pinned: {', '.join(wrong())}"
    return tuple(folder / name for name in sorted(pinned))


@functools.cache
def _compiled(folder: Path) -> str:
    """The class path of what plays Jenkins, compiled into a folder."""
    jars = os.pathsep.join(map(str, _jars()))
    compiler: list[str | Path] = [
        "java",
        *_OPENS,
        "-cp",
        jars,
        "org.codehaus.groovy.tools.FileSystemCompiler",
        "-d",
        folder,
    ]
    subprocess.run([*compiler, *sorted(_HERE.glob("*.groovy"))], check=True, timeout=_SECONDS)
    return f"{folder}{os.pathsep}{jars}"


@dataclass
class Build:
    """A build that runs, or has ended."""

    process: "subprocess.Popen[bytes]"
    folder: Path

    @property
    def console(self) -> str:
        """What the page of the build shows."""
        return (self.folder / "console").read_text(encoding="utf-8", errors="replace")

    @property
    def leaked(self) -> list[str]:
        """Where a secret of a credential was seen: the console, or the arguments of a process."""
        file = self.folder / "leaked"
        return file.read_text(encoding="utf-8").splitlines() if file.exists() else []

    def says(self, text: str, seconds: float = _SECONDS) -> None:
        """Return when the console has the text; fail when the build ends without it, or it takes too long."""
        end = time.monotonic() + seconds
        while text not in self.console:
            assert self.process.poll() is None, f"it ended without {text!r}:\n{self.console[-3000:]}"
            assert time.monotonic() < end, f"no {text!r} within {seconds:.0f} s:\n{self.console[-3000:]}"
            time.sleep(0.2)

    def answer(self, by: str, says: str) -> None:
        """A person presses a button of the build's question."""
        (self.folder / "part").write_text(json.dumps({"by": by, "says": says}))
        (self.folder / "part").replace(self.folder / "answer")

    def abort(self) -> None:
        """A person presses the red cross: what runs is ended, and the build ends as Jenkins ends it."""
        self.process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """The machine of the agent is gone in the middle."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def ended(self) -> "Ended":
        """Wait for the end; fail when it does not come."""
        self.process.wait(_SECONDS)
        record = json.loads((self.folder / "record").read_text(encoding="utf-8"))
        return Ended(self.console, record, self.leaked)


@dataclass(frozen=True)
class Ended:
    """How a build ended: its console and what Jenkins would show of it."""

    console: str
    record: dict[str, Any]
    leaked: list[str]

    @property
    def result(self) -> str:
        """SUCCESS, UNSTABLE, FAILURE or ABORTED."""
        return str(self.record["result"])

    @property
    def stages(self) -> dict[str, str]:
        """Stage -> how it ended; SKIPPED for one that did not begin."""
        return {one["name"]: one["result"] for one in self.record["stages"]}


@dataclass
class Controller:
    """One job, its workspace, the credentials that it may use, and who belongs to the group `approvers`."""

    home: Path
    workspace: Path
    environment: Mapping[str, str]
    credentials: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    approvers: tuple[str, ...] = ("ada",)
    number: int = 100
    builds: list[Build] = field(default_factory=list)

    def begin(self, branch: str = "main", *, parse: bool = False) -> Build:
        """Begin the next build of what is in the workspace; with `parse` nothing of it is run."""
        self.number += 1
        folder = self.home / str(self.number)
        folder.mkdir(mode=0o700, parents=True)
        plan = {
            "workspace": str(self.workspace.resolve()),
            "jenkinsfile": "Jenkinsfile",
            "job": f"manual-app/{branch}",
            "number": self.number,
            "branch": branch,
            "parse": parse,
            "labels": ["delivery"],
            "environment": dict(self.environment),
            "credentials": self.credentials,
            "groups": {"approvers": list(self.approvers)},
            "answer": str(folder / "answer"),
            "archive": str(folder / "archive"),
            "record": str(folder / "record"),
            "leaked": str(folder / "leaked"),
            "locks": str(self.home / "locks"),
        }
        file = folder / "plan"
        file.touch(0o600)
        file.write_text(json.dumps(plan))
        command: list[str | Path] = ["java", *_OPENS, "-cp", _compiled(self.home / "classes"), "Run", file]
        with (folder / "console").open("wb") as out:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.builds.append(Build(process, folder))
        return self.builds[-1]

    def stop(self) -> None:
        """Nothing that was begun goes on."""
        for build in self.builds:
            if build.process.poll() is None:
                build.kill()

    @contextmanager
    def holding(self, resource: str) -> Iterator[None]:
        """Another job holds a resource while the block runs."""
        file = self.home / "locks" / f"resource {resource}"
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("w") as lock:
            fcntl.lockf(lock, fcntl.LOCK_EX)
            yield
