"""Who may do what in the database: prepare.sh and roles.sql, met by a real PostgreSQL that they find as it is."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "manual-app"), str(ROOT / "manual-app" / "tests")]

from real_postgres import APP, OWNER, Postgres  # noqa: E402

FILES = ROOT / "manual-app-helm/charts/postgresql/files"
DATABASE = "manual_app"
SERVER = "postgres"
# A quote and a dollar are nothing special in a password that somebody else made.
PASSWORDS = {SERVER: "the server's", OWNER: "the $owner's$", APP: "the-app's"}
TABLES = """
CREATE TABLE alembic_version (version_num text);
CREATE TABLE orders (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, item text);
INSERT INTO orders (item) VALUES ('lamp');
"""


class Prepared:
    """A server whose pod starts again and again."""

    def __init__(self, admin: str) -> None:
        self.server = Postgres(admin=admin)
        self.server.initialise()
        self.server.start()
        self.server.execute(f"CREATE DATABASE {DATABASE}")
        for name in ("prepare.sh", "roles.sql"):
            self._file(name, (FILES / name).read_text())
        for role, password in PASSWORDS.items():
            self.password(role, f"{password}\n")

    def password(self, role: str, text: str) -> None:
        """Mount another password."""
        self._file(f"password-{role}", text)

    def start(self) -> str:
        """Stop the server, prepare it, start it; what was said meanwhile."""
        self.server.stop()
        try:
            return self.prepare()
        finally:
            self.server.admin = SERVER
            self._start()

    def prepare(self) -> str:
        home = self.server.home
        return self.server.run(
            "sh",
            str(home / "prepare.sh"),
            PGDATA=str(home / "data"),
            POSTGRES_DB=DATABASE,
            POSTGRES_USER=SERVER,
            POSTGRES_PASSWORD_FILE=str(home / f"password-{SERVER}"),
            OWNER_USER=OWNER,
            OWNER_PASSWORD_FILE=str(home / f"password-{OWNER}"),
            APP_USER=APP,
            APP_PASSWORD_FILE=str(home / f"password-{APP}"),
            NAMESPACE="dev",
        )

    def ask(self, role: str, statement: str, password: str = "") -> list[tuple[Any, ...]]:
        """Run a statement as one of the three."""
        return self.server.execute(statement, DATABASE, role, password or PASSWORDS[role])

    def _start(self) -> None:
        self.server.start(user=SERVER, password=PASSWORDS[SERVER])

    def _file(self, name: str, text: str) -> None:
        file = self.server.home / name
        file.write_text(text)
        file.chmod(0o644)


@pytest.fixture(params=[SERVER, APP], ids=["new", "of the version before"])
def database(request: pytest.FixtureRequest) -> Iterator[Prepared]:
    """A new database, and one that was made when the app's role was the server's own; both have tables."""
    made = Prepared(request.param)
    made.server.execute(TABLES, DATABASE)
    said = made.start()
    assert said == ""
    yield made
    made.server.remove()


def test_each_role_may_do_its_own(database: Prepared) -> None:
    """The app's role owns nothing and makes nothing, the owner is not the server's; the orders are still there."""
    roles = database.ask(SERVER, "SELECT rolname, rolsuper FROM pg_roles WHERE rolcanlogin ORDER BY rolname")
    assert roles == [(APP, False), (OWNER, False), (SERVER, True)]
    assert database.ask(SERVER, "SELECT count(*) FROM orders") == [(1,)]
    owners = database.ask(
        SERVER,
        "SELECT DISTINCT pg_get_userbyid(relowner) FROM pg_class WHERE relnamespace = 'public'::regnamespace",
    )
    assert owners == [(OWNER,)]
    for statement in (
        "CREATE TABLE mine (id int)",
        "CREATE TEMPORARY TABLE mine (id int)",
        "CREATE SCHEMA mine",
        "CREATE ROLE mine",
        "CREATE DATABASE mine",
        "DROP TABLE orders",
        "SELECT * FROM pg_authid",
        "SELECT pg_read_file('/etc/passwd')",
        f"SET ROLE {OWNER}",
        f"SET ROLE {SERVER}",
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            database.ask(APP, statement)
    for statement in ("SELECT * FROM pg_authid", "CREATE ROLE mine", f"SET ROLE {SERVER}"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            database.ask(OWNER, statement)
    database.ask(OWNER, f"CREATE TABLE more (id int); GRANT SELECT ON more, orders TO {APP}")
    assert database.ask(APP, "SELECT count(*) FROM more") == [(0,)]
    assert database.ask(APP, "SELECT count(*) FROM orders") == [(1,)]


def test_the_next_start_sets_right_what_was_changed(database: Prepared) -> None:
    """A new password is taken, a right that somebody gave the app's role is gone; what the owner granted stays."""
    database.ask(OWNER, f"GRANT SELECT ON orders TO {APP}")
    database.ask(SERVER, f"ALTER ROLE {APP} SUPERUSER CREATEROLE")
    database.password(APP, "another")
    assert database.start() == ""
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        database.ask(APP, "SELECT 1")
    assert database.ask(APP, "SELECT count(*) FROM orders", "another") == [(1,)]
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        database.ask(APP, "CREATE ROLE mine", "another")


@pytest.mark.parametrize(
    ("text", "says"), [("\n", f"the password of {APP} is empty"), (None, "could not open file")]
)
def test_a_password_that_is_missing_ends_the_start(text: str | None, says: str) -> None:
    """The pod says which, no role is left without one, nothing is changed, and no password is shown."""
    made = Prepared(SERVER)
    try:
        if text is None:
            os.unlink(made.server.home / f"password-{APP}")
        else:
            made.password(APP, text)
        made.server.stop()
        with pytest.raises(subprocess.CalledProcessError) as ended:
            made.prepare()
        assert says in ended.value.stderr
        assert not any(password in ended.value.stderr for password in PASSWORDS.values())
        made.server.start()
        assert made.server.execute("SELECT rolname FROM pg_roles WHERE rolcanlogin") == [(SERVER,)]
    finally:
        made.server.remove()
