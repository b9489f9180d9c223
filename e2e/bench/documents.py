"""Where the results go: docs/bench, and the newest table in the README."""

import json
from pathlib import Path

from delivery.errors import BadInput
from e2e.bench import plot, tables
from e2e.bench.results import Results

FOLDER = Path("docs", "bench")
BEGIN, END = "<!-- bench: `make bench` writes what stands between these two lines -->", "<!-- /bench -->"
# The README has what the goals are about; the rest is in docs/bench.
_README = (plot.READY, "Promotions")


def write(results: Results, root: Path) -> list[Path]:
    """Write the JSON, the plot, the whole table and the README's of a checkout; the files."""
    folder, readme = root / FOLDER, root / "README.md"
    text = with_table(readme.read_text(encoding="utf-8"), results)
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / name for name in ("bench.json", "bench.svg", "bench.md")]
    files[0].write_text(json.dumps(results.as_json(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    plot.write(results, files[1])
    files[2].write_text(page(results), encoding="utf-8")
    readme.write_text(text, encoding="utf-8")
    return [*files, readme]


def page(results: Results) -> str:
    """docs/bench/bench.md: the machine, the plot, every number, and what they do not show."""
    notes = "".join(f"- {line}\n" for line in (*_missed(results), *results.notes))
    return (
        f"# What `make bench` measured\n\nOn {results.machine}. Written by `make bench`; as data: "
        f"[bench.json](bench.json).\n\n![The plot of the numbers below](bench.svg)\n\n"
        f"{tables.markdown(results)}\n## Notes\n\n{notes}"
    )


def with_table(readme: str, results: Results) -> str:
    """The README with the newest table in place of the one before; BadInput where its place is not marked."""
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise BadInput(
            "README.md has no place for the bench's table", f"put these two lines there: {BEGIN} {END}"
        )
    missed = "".join(f"- {line}\n" for line in _missed(results))
    table = (
        f"On {results.machine}. Every number: [bench.md](docs/bench/bench.md).\n\n"
        f"{tables.markdown(results, _README)}\n{missed and missed + chr(10)}"
        "![Commit to Ready, and where the time goes](docs/bench/bench.svg)\n"
    )
    return f"{before}{begin}\n{table}{end}{after}"


def _missed(results: Results) -> list[str]:
    return [f"missed: {line}" for line in tables.missed(results)]
