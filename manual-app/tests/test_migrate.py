"""python -m manual_app.migrate: to the schema this build needs, however often and by however many."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack

import psycopg
import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from manual_app import connect, migrate, orders, revision
from manual_app.migrations import upgrade
from manual_app.settings import DatabaseSettings
from real_postgres import APP, PASSWORD, Postgres, owned
from real_service import environment, order, process, serving, settings
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

Run = Callable[[DatabaseSettings], tuple[int, list[dict[str, object]]]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the migration in this process; give its exit code and its log lines."""
    printed: list[str] = []
    monkeypatch.setattr(migrate.signal, "signal", lambda *_: None)
    monkeypatch.setattr(migrate, "print", lambda line, flush: printed.append(line), raising=False)

    def run(database: DatabaseSettings) -> tuple[int, list[dict[str, object]]]:
        for name, value in environment(owned(database)).items():
            monkeypatch.setenv(name, value)
        printed.clear()
        code = migrate.main()
        return code, [json.loads(line) for line in printed]

    return run


def test_empty_database_is_migrated_once(postgres: Postgres, run: Run) -> None:
    """The first run makes the schema, the second finds it current; orders in it stay."""
    database = postgres.database()
    code, [line] = run(database)
    assert (code, line["event"]) == (0, "schema migrated")
    with serving(settings(database, "http://127.0.0.1:9")) as client:
        assert client.get("/readyz").status_code == 200
        assert client.post("/orders", json=order(currency="EUR")).status_code == 201
        code, [line] = run(database)
        assert (code, line["event"]) == (0, "schema is current")
        assert len(client.get("/orders").json()["orders"]) == 1


def test_two_jobs_at_once_do_not_collide(postgres: Postgres) -> None:
    """Two migrations that start together both succeed: one does the work, the other waits for it."""
    database = postgres.database()
    with ExitStack() as stack:
        gate = stack.enter_context(connect.connect(owned(database)))
        gate.execute(f"SELECT pg_advisory_xact_lock({upgrade.LOCK})")
        jobs = []
        for _ in range(2):
            jobs.append(stack.enter_context(process("manual_app.migrate", environment(owned(database)))))
            stack.callback(jobs[-1].kill)
        waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        deadline = time.monotonic() + 20
        # The holder of the lock asks: the server ends a transaction that idles, and a busy machine starts jobs slowly.
        while gate.execute(waiting).fetchall() != [(2,)]:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        gate.commit()
        events = []
        for job in jobs:
            output, _ = job.communicate(timeout=20)
            assert job.returncode == 0, output
            events.append(json.loads(output)["event"])
    assert sorted(events) == ["schema migrated", "schema migrated by another"]


def test_nothing_to_do_is_quick(migrated: DatabaseSettings) -> None:
    """When the schema is current the Job loads neither Alembic nor SQLAlchemy: it runs at each deployment."""
    code = (
        "import runpy, sys\n"
        "try: runpy.run_module('manual_app.migrate', run_name='__main__')\n"
        "except SystemExit as end: assert not end.code\n"
        "print([name for name in ('alembic', 'sqlalchemy', 'fastapi', 'structlog') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment(owned(migrated)),
        check=True,
        capture_output=True,
        text=True,
    )
    assert "schema is current" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"


def test_newer_schema_is_left_alone(postgres: Postgres, template: str, run: Run) -> None:
    """A rollback meets a schema that is ahead: the Job succeeds and changes nothing."""
    database = postgres.database(template)
    postgres.execute("UPDATE alembic_version SET version_num = '0099'", database.name)
    code, [line] = run(database)
    assert (code, line["event"], line["schema"]) == (0, "schema is current", "0099")


def test_unknown_schema_is_refused(postgres: Postgres, template: str, run: Run) -> None:
    """A revision that no build ever had is an error with a hint, and the schema stays as it is."""
    database = postgres.database(template)
    postgres.execute("UPDATE alembic_version SET version_num = 'bogus'", database.name)
    code, [line] = run(database)
    assert (code, line["level"]) == (1, "error")
    assert "bogus" in str(line["reason"])
    assert line["hint"]
    assert postgres.execute("SELECT version_num FROM alembic_version", database.name) == [("bogus",)]


def test_failed_migration_changes_nothing(postgres: Postgres, run: Run) -> None:
    """When a revision fails half-way, nothing of it stays behind, and the reason is named."""
    database = postgres.database()
    postgres.execute("CREATE TABLE orders (id int)", database.name)
    code, [line] = run(database)
    assert code == 1
    assert "already exists" in str(line["reason"])
    assert postgres.execute("SELECT to_regclass('alembic_version')", database.name) == [(None,)]


def test_waits_for_the_database_but_not_for_ever(
    postgres: Postgres, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the database is not up yet the Job waits and says why; at its limit it gives up with a hint."""
    monkeypatch.setattr(migrate, "WAIT_SECONDS", 0.3)
    nowhere = DatabaseSettings("127.0.0.1", 9, "none", "none", postgres.home / "password")
    code, lines = run(nowhere)
    assert code == 3
    assert [line["event"] for line in lines] == ["waiting for the database", "database not reached"]
    assert lines[-1]["hint"]
    assert PASSWORD not in json.dumps(lines)


def test_goes_on_once_the_database_is_up(
    migrated: DatabaseSettings, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database that comes up while the Job waits is used without another run of the Job."""
    attempts = []

    def late(*arguments: object) -> object:
        attempts.append(arguments)
        if len(attempts) < 3:
            raise psycopg.OperationalError("the database system is starting up")
        return real(*arguments)

    real = connect.connect
    monkeypatch.setattr(connect, "connect", late)
    code, lines = run(migrated)
    assert code == 0
    assert [line["event"] for line in lines] == ["waiting for the database", "schema is current"]


def test_code_and_revisions_agree(migrated: DatabaseSettings) -> None:
    """The revision this build waits for is the newest it brings, and it makes exactly the table it uses."""
    script = ScriptDirectory.from_config(upgrade.config())
    assert script.get_heads() == [revision.HEAD]
    engine = create_engine(
        "postgresql+psycopg://", creator=lambda: connect.connect(migrated), poolclass=NullPool
    )
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), orders.METADATA) == []


def test_the_service_owns_nothing(postgres: Postgres, template: str) -> None:
    """The role of the service places orders and reads them; it changes none, makes no table, and sees no password."""
    database = postgres.database(template)
    allowed = (
        "SELECT * FROM orders",
        "SELECT * FROM alembic_version",
        "INSERT INTO orders (customer, item, quantity, unit_price, currency, discount_percent, discount_eur, "
        "total_eur, rate, total) VALUES ('Ada', 'lamp', 1, 1, 'EUR', 0, 0, 1, 1, 1)",
    )
    refused = (
        "UPDATE orders SET total = 0",
        "DELETE FROM orders",
        "TRUNCATE orders",
        "DROP TABLE orders",
        "CREATE TABLE mine (id int)",
        "UPDATE alembic_version SET version_num = '0099'",
        "SELECT * FROM pg_authid",
    )
    with connect.connect(database) as connection:
        connection.autocommit = True
        for statement in allowed:
            connection.execute(statement)
        for statement in refused:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement)


def test_a_schema_that_the_service_owned_is_taken_over(postgres: Postgres, run: Run) -> None:
    """A database of the version before, whose rights were one role's, gets those of today; its orders stay."""
    database = postgres.database()
    made = upgrade.config()
    engine = create_engine(
        "postgresql+psycopg://", creator=lambda: connect.connect(owned(database)), poolclass=NullPool
    )
    with engine.begin() as connection:
        made.attributes["connection"] = connection
        command.upgrade(made, "0001")
    postgres.execute(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {APP}", database.name)
    code, [line] = run(database)
    assert (code, line["event"]) == (0, "schema migrated")
    with connect.connect(database) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute("DELETE FROM orders")
