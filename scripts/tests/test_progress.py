"""What the user sees of a long step: on a terminal how far it is and the time left, in a log a line now and then."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from delivery import durations, progress
from delivery.progress import Phase, phase


@pytest.fixture
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file with how long phases took, of a user who has run nothing yet."""
    file = tmp_path / "cache" / "durations.json"
    monkeypatch.setattr(durations, "_file", lambda: file)
    return file


@pytest.fixture
def terminal(memory: Path, monkeypatch: pytest.MonkeyPatch) -> StringIO:
    """A terminal of 100 columns."""
    out = StringIO()
    screen = Console(file=out, force_terminal=True, width=100, height=25, highlight=False, soft_wrap=True)
    monkeypatch.setattr(progress, "_console", screen)
    return out


@pytest.fixture
def log(memory: Path, monkeypatch: pytest.MonkeyPatch) -> StringIO:
    """The log of a CI, in which something is said every twentieth of a second instead of every half minute."""
    out = StringIO()
    monkeypatch.setattr(progress, "_console", Console(file=out, highlight=False, soft_wrap=True))
    monkeypatch.setattr(progress, "_SAY_EVERY", 0.05)
    return out


def took(title: str, seconds: float, mark: str = "✓") -> None:
    """A phase of an earlier run."""
    earlier = Phase(title, title)
    earlier.started -= seconds
    earlier.end(mark)


def seen(out: StringIO, current: Phase, after: float = 0.0) -> str:
    """What a terminal shows of a phase that has run for so many seconds, as plain text."""
    current.started -= after
    drawing = progress._screen._drawing
    assert drawing
    out.seek(0)
    out.truncate()
    drawing.refresh()
    return plain(out)


def plain(out: StringIO) -> str:
    """What was written to a terminal, without colours and moves of the cursor."""
    return re.sub(r"\x1b\[[\d;?]*[A-Za-z]|\r", "", out.getvalue())


def until(true: Callable[[], bool]) -> None:
    """Return when it is true: another thread makes it so."""
    end = time.monotonic() + 10
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_the_time_left_of_an_earlier_run(terminal: StringIO) -> None:
    """On a terminal a phase shows what it does, how far it is, and the time left, taken from an earlier run."""
    took("Creating cluster manual-app", 40)
    with phase("Creating cluster manual-app") as current:
        current.update("Preparing nodes")
        said = seen(terminal, current, after=28)
    what, where = said.splitlines()[-2:]
    assert re.fullmatch(
        r"\S Creating cluster manual-app +━+╸?━* 0:00:00 about 12 s left *", what.replace("╺", "━")
    )
    assert where.strip() == "Preparing nodes"
    assert current.share == pytest.approx(0.7, abs=0.01)


def test_the_first_run_promises_nothing(terminal: StringIO) -> None:
    """Where no earlier run tells, what it does and how long it has run is all that is shown."""
    with phase("Creating cluster manual-app") as current:
        said = seen(terminal, current)
        assert current.share is None
    assert "Creating cluster manual-app" in said
    assert "0:00:00" in said
    assert "left" not in said


def test_longer_than_the_earlier_run(terminal: StringIO) -> None:
    """A phase that takes longer than in the earlier run makes no false promise."""
    took("Installing Argo CD", 5)
    with phase("Installing Argo CD") as current:
        said = seen(terminal, current, after=6)
        assert current.share is None
    assert "left" not in said


@pytest.mark.parametrize(
    ("detail", "share"),
    [
        ("1200 of 3600 packages", 1 / 3),
        ("3 of 12: postgresql (2 of 5 layers)", 2 / 12),
        ("4 of 3 layers", 1.0),
        ("0 of 0 tests", None),
        ("Step 3 of 4", None),
    ],
)
def test_how_far_a_phase_is_that_counts(terminal: StringIO, detail: str, share: float | None) -> None:
    """What a phase counts itself is drawn as it is: three of twelve are begun when two are done."""
    with phase("Pulling images") as current:
        current.update(detail)
        assert detail in seen(terminal, current)
        assert current.share == (share if share is None else pytest.approx(share))


def test_a_long_detail_leaves_room_for_the_time(terminal: StringIO) -> None:
    """A compiler's long line is cut off, and the time left is not; brackets are no markup."""
    took("Build 15 of commit 0123456789ab", 60)
    with phase("Build 16 of commit ba9876543210") as current:
        current.update(f"[2/7]\nRUN {'x' * 200}")
        said = seen(terminal, current, after=10)
    assert re.search(r"Build 16 of commit ba9876543210 .*\n +\[2/7\] RUN x+… *$", said)
    assert "about 50 s left" in said
    assert max(len(line) for line in said.splitlines()) <= 100


def test_phases_beside_each_other(terminal: StringIO) -> None:
    """Phases may overlap: each is drawn with its own time, and the line that stays is the one in a log."""
    took("Compiling 23 programs", 600)
    with phase("Compiling 24 programs") as compiling:
        with phase("Preparing Debian"):
            said = seen(terminal, compiling, after=120)
            assert "Preparing Debian" in said
        assert "about 8 min left" in said
    assert re.search(r" ✓ Compiling 24 programs \(120\.\d s\)\n\Z", plain(terminal))
    assert progress._screen._drawing is None


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Build 15 of commit 0123456789ab", "Build 16 of commit deadbeefcafe"),
        ("Push manual-app:15", "Push manual-app:16"),
        (f"All replicas in dev run sha256:{'a' * 12}", f"All replicas in dev run sha256:{'1' * 12}"),
        ("Fetching helm 4.1.2 (none is on PATH)", "Fetching helm v4.2.0-rc1 (helm 3.1 (on PATH) is too old)"),
        ("Compiling 2 programs", "Compiling 23 programs"),
    ],
)
def test_a_title_that_differs_from_run_to_run(memory: Path, one: str, other: str) -> None:
    """Digests, commits, numbers and reasons are of one run: the next one finds what it took all the same."""
    durations.remember(one, 7)
    assert durations.earlier(other) == 7


def test_titles_that_mean_something_else(memory: Path) -> None:
    """Environments, clusters and suites have times of their own, also those with a number in their name."""
    durations.remember("Testing dev: smoke", 7)
    durations.remember("Creating cluster manual-app-1", 7)
    for other in ("Testing stage: smoke", "Testing dev: smoke, security", "Creating cluster manual-app-2"):
        assert durations.earlier(other) is None


def test_the_reason_of_a_lifted_freeze_is_not_kept(terminal: StringIO, memory: Path) -> None:
    """A title with somebody's own words is remembered without them."""
    with phase("Lifting the freeze of prod: fire", like="Lifting the freeze of prod") as current:
        current.started -= 4
    assert list(json.loads(memory.read_text())) == ["Lifting the freeze of prod"]


def test_what_is_not_remembered(log: StringIO, memory: Path) -> None:
    """A phase that failed says nothing of how long one takes, and nobody waits for a short one."""
    took("Creating cluster manual-app", 40, "✗")
    took("Installing Argo CD", 2.9)
    assert not memory.exists()
    took("Installing Argo CD", 3.1)  # in a log, too: the next run may be on a terminal
    assert durations.earlier("Installing Argo CD") == pytest.approx(3.1, abs=0.1)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b'{"Installing Argo CD": 4',
        b"\xff\xfe\x00",
        b"[1, 2]",
        b"7",
        b'{"Installing Argo CD": "long"}',
        b'{"Installing Argo CD": null}',
        b'{"Installing Argo CD": -7}',
        b'{"Installing Argo CD": NaN}',
        b'{"Installing Argo CD": 1e999}',
        b"[" * 100_000,
    ],
    ids=lambda text: text.decode("latin-1")[:40],
)
def test_a_damaged_memory_harms_nothing(terminal: StringIO, memory: Path, text: bytes) -> None:
    """Whatever is in the file: the phase runs, shows no time left, and the next run knows it again."""
    memory.parent.mkdir()
    memory.write_bytes(text)
    with phase("Installing Argo CD") as current:
        assert "left" not in seen(terminal, current, after=4)
    assert durations.earlier("Installing Argo CD") == pytest.approx(4, abs=0.5)


def test_a_memory_that_cannot_be_written(
    terminal: StringIO, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cache folder that cannot be made, or a user without a home, is no reason to fail."""
    (tmp_path / "cache").write_text("a file, where the folder should be")
    took("Installing Argo CD", 4)

    def nowhere() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(durations, "_file", nowhere)
    took("Installing Argo CD", 4)
    assert terminal.getvalue().count("✓ Installing Argo CD (4.0 s)") == 2


def test_many_at_once(memory: Path) -> None:
    """Phases that end at the same moment all keep their time, and only so many are kept."""
    titles = [f"Testing {name}: smoke" for name in ("dev", "qa", "stage", "prod")]
    threads = [threading.Thread(target=durations.remember, args=(one, 5)) for one in titles]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert sorted(json.loads(memory.read_text())) == sorted(titles)
    memory.write_text(json.dumps({f"old-{n}": 5 for n in range(500)}))
    durations.remember("new", 5)
    known = json.loads(memory.read_text())
    assert (len(known), "new" in known, "old-0" in known) == (200, True, False)


def test_a_silent_phase_speaks_in_a_log(log: StringIO) -> None:
    """A phase without news says every half minute that it still runs, for how long, and what it last told."""
    with phase("Compiling kind") as current:
        until(lambda: re.search(r"^ · Compiling kind \(\d s\)$", log.getvalue(), re.M) is not None)
        current.update("7 of 9 packages")
        current.started -= 60
        told = r"^ · Compiling kind: 7 of 9 packages \(6\d s\)$"
        until(lambda: len(re.findall(told, log.getvalue(), re.M)) >= 2)
    assert re.search(r"^ ✓ Compiling kind \(6\d\.\d s\)\n\Z", log.getvalue(), re.M)


def test_what_docker_says_is_one_plain_line_of_a_log(log: StringIO) -> None:
    """A step of a Dockerfile may be a whole script, and coloured: a log has its beginning, as text."""
    with phase("Building images") as current:
        current.update(f"2 of 4: \x1b[91mStep 3/3\x1b[0m : RUN {'apt-get install && ' * 40}")
        while "Step" not in log.getvalue():
            time.sleep(0.01)
    said = next(line for line in log.getvalue().splitlines() if "Step" in line)
    assert said.startswith(" · Building images: 2 of 4: Step 3/3 : RUN apt-get install && ")
    assert "…" in said
    assert len(said) < 160


def test_nothing_is_said_after_the_end(log: StringIO) -> None:
    """What has ended says nothing any more, whatever else runs; with the last phase, the one thread ends."""

    def speakers() -> int:
        return sum(one.name == progress._SPEAKER for one in threading.enumerate())

    with phase("Compiling kind"):
        with phase("Preparing Debian"):
            assert speakers() == 1
            until(lambda: "· Preparing Debian" in log.getvalue())
        ended = log.getvalue()
        until(lambda: log.getvalue()[len(ended) :].count("· Compiling kind") >= 2)
        assert "Preparing Debian" not in log.getvalue()[len(ended) :]
    until(lambda: speakers() == 0)
    assert log.getvalue().splitlines()[-1].startswith(" ✓ Compiling kind (")


def test_short_phases_are_a_line_each(log: StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a log a phase is one line when it ends, and no file is read for it: nothing could be drawn."""
    monkeypatch.setattr(durations, "_file", lambda: pytest.fail("it asks for earlier runs"))
    with phase("The gate of stage lets sha256:0123456789ab in") as current:
        current.update("3 of 4")
    assert log.getvalue() == " ✓ The gate of stage lets sha256:0123456789ab in (0.0 s)\n"
