"""Write the pages of the documentation that follow from the code: settings, commands, environments, notebooks."""

import contextlib
import csv
import importlib
import io
import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from unittest import mock

from purerl.__main__ import COMMANDS
from purerl.cli.flags import as_text, form
from purerl.settings import registry, schema
from purerl.settings.kinds import fields, flows

ROOT = Path(__file__).parent.parent

Row = tuple[str, ...]


def write(docs: Path) -> None:
    """Write the generated pages under `docs`, and copy the notebooks there. Files that would not change stay."""
    pages = {
        "reference/settings.md": settings_page(),
        "reference/commands.md": commands_page(),
        "generated/environments.md": environments_table(docs / "environments.csv"),
        "changelog.md": (ROOT / "CHANGELOG.md").read_text(),
        "contributing.md": of_root((ROOT / "CONTRIBUTING.md").read_text()),
    }
    for name, text in pages.items():
        _replace(docs / name, text.encode())
    for notebook in (ROOT / "notebooks").glob("*.ipynb"):
        _replace(docs / "notebooks" / notebook.name, notebook.read_bytes())


def _replace(file: Path, content: bytes) -> None:
    file.parent.mkdir(exist_ok=True)
    if not file.exists() or file.read_bytes() != content:
        file.write_bytes(content)


def of_root(text: str) -> str:
    """The Markdown of a file at the top level, with its links as they are from `docs/`."""
    return text.replace("](docs/", "](").replace("](CHANGELOG.md)", "](changelog.md)")


def table(head: Row, rows: Iterable[Row]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines) + "\n"


def settings_page() -> str:
    """Every setting: its flag, the values it takes, its default and its meaning, from the settings classes."""
    parts = [
        "# Settings",
        "This page is generated from `purerl/settings/schema.py` and `purerl/settings/hyperparameters.py`. "
        "The defaults are those of the classes. The preset and the file of an environment in `envs/` replace many of "
        "them: `purerl train --algo sac --env hopper --help` shows the defaults that hold there.",
        "In a TOML file a name has underscores (`num_envs`), as a flag it has hyphens (`--num-envs`). "
        "Hyperparameters stand under `[hyper]` in a file.",
    ]
    for title, text, cls in GROUPS:
        parts += [f"## {title}", text, table(("setting", "values", "default", "meaning"), _rows(cls))]
    parts += [
        "## Hyperparameters",
        "Numbers marked *flows* are arguments of the compiled program: a sweep trains several values side by side "
        "without compiling again, and each run may have its own. Any other hyperparameter changes the program.",
    ]
    for name, spec in registry.ALGORITHMS.items():
        cls = spec.hyperparameters
        rows = [(*row, "flows" if flows(fields(cls)[row[0][1:-1]].default) else "") for row in _rows(cls)]
        parts += [
            f"### {registry.display_name(name)}",
            table(("hyperparameter", "values", "default", "meaning", ""), rows),
        ]
    return "\n\n".join(parts) + "\n"


GROUPS = (
    ("The run", "What is trained.", schema.Job),
    ("Training", "These settings shape the compiled program. A new value compiles a new program.", schema.Plan),
    (
        "Checkpoints, logs and devices",
        "These settings do not change what is computed. They may be changed when a run is resumed.",
        schema.Keep,
    ),
    ("Population based training", "Under `[pbt]` in the file of a sweep.", schema.Population),
    ("Search", "Under `[search]` in the file of a sweep, beside `space` and `rungs`.", schema.Search),
)


def _rows(cls: type) -> list[Row]:
    return [
        (f"`{name}`", f"`{form(cls, name)}`", f"`{as_text(each.default)}`", each.description)
        for name, each in fields(cls).items()
    ]


def commands_page() -> str:
    """What `--help` prints, command by command."""
    parts = [
        "# Commands",
        "This page is generated from `--help`. `purerl train` and `python -m purerl.train` are the same command.",
        table(
            ("command", "what it does"), [(f"[`purerl {name}`](#purerl-{name})", COMMANDS[name]) for name in COMMANDS]
        ),
    ]
    for name in COMMANDS:
        parts += [f"## purerl {name}", f"```text\n{help_of(name)}```"]
    return "\n\n".join(parts) + "\n"


def help_of(command: str) -> str:
    """What `purerl COMMAND --help` prints, 100 characters wide."""
    main: Callable[[list[str]], int] = importlib.import_module(f"purerl.{command}").main
    without = {name: value for name, value in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"}
    printed = io.StringIO()
    with (
        mock.patch.dict(os.environ, without | {"COLUMNS": "100", "NO_COLOR": "1"}, clear=True),
        contextlib.redirect_stdout(printed),
        contextlib.suppress(SystemExit),
    ):
        main(["--help"])
    return printed.getvalue()


def environments_table(file: Path) -> str:
    """A table of `environments.csv`, which `python docs/environments.py` writes."""
    with open(file, newline="") as opened:
        head, *rows = csv.reader(opened)
    return table(tuple(head), [(f"`{row[0]}`", *row[1:]) for row in rows])


def to_rst(lines: list[str]) -> None:
    """Change a docstring, plain text with names in single backticks, to reStructuredText, in place."""
    paragraphs = re.split(r"\n\s*\n", "\n".join(lines).strip("\n"))
    lines[:] = [*"\n\n".join(map(_paragraph, paragraphs)).splitlines(), ""]


def _paragraph(text: str) -> str:
    first, *rest = text.splitlines() or [""]
    if first.rstrip().endswith(":") and rest and all(line.startswith("    ") for line in rest):
        return f"{_inline(first)}\n\n" + "\n".join(_item(line) for line in rest)
    if any(line.startswith(" ") or "   " in line.strip() for line in text.splitlines()):
        return "::\n\n" + "\n".join(f"    {line}" for line in text.splitlines())
    return _inline(text)


def _item(line: str) -> str:
    """`    name: text` as an item of a list; a line that is indented further continues it."""
    if line.startswith("     "):
        return f"  {_inline(line.strip())}"
    name, colon, text = line.strip().partition(": ")
    return f"* ``{name}``: {_inline(text)}" if colon else f"* {_inline(line.strip())}"


def _inline(text: str) -> str:
    """Names in backticks become literals, and `*words*` stay emphasis. Nothing else is markup."""
    pieces = re.split(r"(`[^`]+`|(?<!\w)\*\w[\w ]*\*(?!\w))", text)
    return "".join(map(_escaped, pieces))


def _escaped(piece: str) -> str:
    if re.fullmatch("`[^`]+`", piece):
        return _literal(piece)
    return piece if re.fullmatch(r"\*[\w ]+\*", piece) else re.sub(r"([*|_`\\])", r"\\\1", piece)


def _literal(name: str) -> str:
    """A literal that may touch letters: an escaped space is no space."""
    return f"\\ `{' '.join(name.split())}`\\ "
