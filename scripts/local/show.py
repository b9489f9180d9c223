"""What `doctor` and `pin` print."""

from collections.abc import Iterable

from rich.text import Text

from delivery.show.out import console
from local.pinning import Pinned
from local.up import Check


def checks(found: Iterable[Check]) -> None:
    """One line for each part, a hint below what is wrong."""
    out = console()
    for check in found:
        mark = Text("✓" if check.ok else "✗", style="green" if check.ok else "red")
        out.print(Text.assemble(" ", mark, f" {check.name}: {check.seen}"), soft_wrap=True)
        if not check.ok:
            out.print(f"   hint: {check.hint}", markup=False, highlight=False, soft_wrap=True)


def pinned(done: Pinned) -> None:
    """What was written, and by what each tool's checksums are believed."""
    for one in done.changes:
        print(f"{'.'.join(one.path)}: {one.after}{f' (was {one.before})' if one.before else ''}")
    for name, by in done.believed.items():
        print(f"{name}: believed by {by}")
    print(f"{len(done.changes) or 'no'} pins changed in scripts/local/versions.yaml")
