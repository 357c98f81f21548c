"""The documentation: the site builds without a warning, its examples run, and its sentences are short."""

import glob
import importlib
import json
import re
import shlex
import subprocess
import sys
import tomllib
from importlib.metadata import metadata
from pathlib import Path

import numpy as np
import pytest
from commands import SMALL
from folders import ROOT

from purerl import environments, train
from purerl.__main__ import COMMANDS
from purerl.results import curves
from purerl.settings import config

DOCS = ROOT / "docs"
sys.path.insert(0, str(DOCS))
modules = (importlib.import_module(name) for name in ("readability", "environments"))
readability, table_of_environments = modules

GENERATED = ("changelog.md", "contributing.md", "reference/settings.md", "reference/commands.md")
WRITTEN = sorted(
    str(file.relative_to(ROOT))
    for file in DOCS.rglob("*.md")
    if not {"_build", "generated", "notebooks"} & set(file.relative_to(DOCS).parts)
    and str(file.relative_to(DOCS)) not in GENERATED
)
PAGES = ["README.md", "CONTRIBUTING.md", "benchmarks/README.md", "results/README.md", *WRITTEN]
FIRST = ("docs/start/first_run.md",)
BLOCK = re.compile(
    r"(?P<mark><!-- not run: \S.*? -->\s*)?^```(?P<language>\w+)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE
)
LANGUAGES = {"sh", "python", "toml", "text", "json", "bibtex"}
SIZES = SMALL | {"env": "Pendulum-v1", "seed": "0"}
QUICK = ("Pendulum-v1", "fast")  # Other environments are replaced by Pendulum-v1.
DROPPED = {"--backend", "--devices"}


def blocks(page):
    """`[(language, text, whether it is marked as not to be run)]` of the code blocks of a page."""
    text = re.sub(r"^ +(?=```|<!-- not run)", "", (ROOT / page).read_text(), flags=re.MULTILINE)
    return [(block["language"], block["text"], bool(block["mark"])) for block in BLOCK.finditer(text)]


def commands_of(text):
    """The commands of a block, `[[word]]`."""
    lines = text.replace("\\\n", " ").splitlines()
    return [words for words in (shlex.split(line, comments=True) for line in lines) if words]


def expanded(words):
    """The words with the names that a pattern such as `results/*-td3` stands for, as a shell gives them."""
    return [name for word in words for name in sorted(glob.glob(word)) or [word]]


def is_quick(env):
    return env in QUICK or ":" in env or env.endswith(".toml")


def small(words):
    """The arguments of `train` or `sweep` with sizes that take a second."""
    kept, env = [], None
    for before, word in zip(["", *words], words, strict=False):
        if word in DROPPED or before in DROPPED:
            continue
        env = word if before == "--env" else env
        kept.append("1" if before == "--seeds-per-batch" and word.isdigit() else word)
    sizes = SIZES | ({"env": env} if env is not None and is_quick(env) else {})
    return [*kept, *(part for name, value in sizes.items() for part in (f"--{name.replace('_', '-')}", value))]


def validate(words):
    """The settings of a `train` command, at the sizes that the page says, are accepted."""
    flags, options = train.parse(words)
    if options.resume is None:
        config.resolve(flags, options.config)


def run(words):
    """Run a command of a page in small. Returns its exit status."""
    name, *words = words
    main = importlib.import_module(f"purerl.{name}").main
    if {"--help", "-h"} & set(words):
        with pytest.raises(SystemExit) as ended:
            main(words)
        return ended.value.code
    if name == "train":
        validate(words)
    if name == "plot" and any(word.startswith("runs/") for word in words):
        words = [word for word in words if word != "--published"]  # Nothing is published for what is trained here.
    trains = name == "sweep" or (name == "train" and "--resume" not in words)
    return main(small(words) if trains else words)


class Page:
    """Runs the blocks of a page, one after the other, in the current folder."""

    def __init__(self):
        self.scope = {"__name__": "page"}

    def run(self, language, text):
        name = re.match(r"# (\S+\.(?:py|toml))\n", text)
        if name:
            Path(name[1]).write_text(text)
        elif language == "python":
            exec(compile(text, "<page>", "exec"), self.scope)
        elif language == "toml":
            tomllib.loads(text)
        elif language == "sh":
            for words in commands_of(text):
                assert words[0] == "purerl" and words[1] in COMMANDS, f"mark as not run: {shlex.join(words)}"
                assert run(expanded(words[1:])) in (0, None), shlex.join(words)


RESULTS = {  # what the examples of a page come to
    "README.md": lambda scope: len(scope["run"].returns) == 3 and scope["tuned"].settings.hyper.gamma == 0.98,
    "docs/start/first_run.md": lambda scope: scope["policy"](np.zeros((5, 3), np.float32)).shape == (5, 1),
    "docs/guides/own_algorithm.md": lambda scope: (
        curves.load("runs/mean_sac")["colour"].unique().tolist() == ["#8c564b"]
    ),
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Runs a page in a folder of its own, beside the shipped results and sweeps. Runs of Python are small, too."""
    for name in ("results", "sweeps", "envs", "benchmarks", "notebooks", "tests"):
        (tmp_path / name).mkdir()
        for file in (ROOT / name).iterdir():
            (tmp_path / name / file.name).symlink_to(file)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    resolve, make, loaded = config.resolve, environments.make, set(sys.modules)

    def resolve_small(flags, *files):
        return resolve(flags | SIZES, *files)

    def make_small(name, *more, **named):
        return make(name, *more, **named) if not isinstance(name, str) or is_quick(name) else make("Pendulum-v1")

    yield resolve_small, make_small
    for name in set(sys.modules) - loaded:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


@pytest.mark.parametrize(
    "page", [page if page in FIRST else pytest.param(page, marks=pytest.mark.slow) for page in PAGES]
)
def test_the_examples_of_a_page_run(page, folder, shared_programs, monkeypatch):
    found = [(language, text) for language, text, marked in blocks(page) if not marked]
    assert {language for language, _ in found} <= LANGUAGES
    here = Page()
    for language, text in found:
        with monkeypatch.context() as patched:
            if language == "python":
                patched.setattr(config, "resolve", folder[0])
                patched.setattr(environments, "make", folder[1])
            here.run(language, text)
    assert page not in RESULTS or RESULTS[page](here.scope)


def test_every_extra_that_a_page_names_exists():
    extras = set(metadata("purerl").get_all("Provides-Extra"))
    for page in PAGES:
        for named in re.findall(r"'(?:\.|purerl)\[([\w,]+)\]'", (ROOT / page).read_text()):
            assert set(named.split(",")) <= extras, (page, named)


@pytest.mark.parametrize("page", PAGES)
def test_every_page_that_is_linked_exists(page):
    """Sphinx checks the headings, too, in a slow test."""
    here = (ROOT / page).parent
    links = re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", (ROOT / page).read_text())
    made = {DOCS / name for name in GENERATED} | {DOCS / "notebooks" / file.name for file in ROOT.glob("notebooks/*")}
    assert [link for link in links if not (here / link).exists() and (here / link).resolve() not in made] == []


@pytest.mark.parametrize("page", PAGES)
def test_sentences_are_short(page):
    length = readability.measure((ROOT / page).read_text())
    assert length.mean <= 20 and length.longest <= 40, length
    assert page != "README.md" or length.lines <= 150


@pytest.mark.parametrize(
    "text, mean, longest",
    [
        ("One two. Three four five six.", 3, 4),
        ("# A heading that is not counted\n\n| a table | too |\n\nOne `code of many words` three!", 3, 3),
        ("```sh\na b c d e f\n```\n- one two\n- three [four five](a b c) six seven", 3.5, 5),
    ],
)
def test_sentences_are_measured(text, mean, longest):
    length = readability.measure(text)
    assert (length.mean, length.longest) == (mean, longest)


def test_the_table_of_environments_is_theirs():
    rows = [line.split(",") for line in (DOCS / "environments.csv").read_text().splitlines()]
    assert [row[0] for row in rows] == ["environment", *table_of_environments.NAMES]
    for name in ("Pendulum-v1", "fast"):
        assert list(table_of_environments.row(name)) in rows


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the site, built strictly."""
    out = tmp_path_factory.mktemp("site")
    ran = subprocess.run(
        [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-d", out / "doctrees", DOCS, out / "html"],
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    return out / "html"


@pytest.mark.slow
def test_the_site_builds_without_a_warning_and_has_every_page(site):
    assert all((site / page.removeprefix("docs/")).with_suffix(".html").exists() for page in WRITTEN)
    assert (site / "reference" / "settings.html").read_text().count("updates_per_step") >= 1


@pytest.mark.slow
def test_the_site_needs_no_network(site):
    loaded = r"""<(?:script|img|iframe)[^>]+src="(?:https?:)?//|<link[^>]+rel="stylesheet"[^>]+href="(?:https?:)?//"""
    assert [str(page) for page in site.rglob("*.html") if re.search(loaded, page.read_text())] == []


@pytest.mark.parametrize(
    "word, page", [("resum", "guides/resume"), ("truncat", "explanation/time_limits"), ("ray", "guides/cluster")]
)
@pytest.mark.slow
def test_search_finds(site, word, page):
    index = json.loads((site / "searchindex.js").read_text().removeprefix("Search.setIndex(").removesuffix(")"))
    found = [index[kind].get(word, []) for kind in ("terms", "titleterms")]
    numbers = [number for each in found for number in (each if isinstance(each, list) else [each])]
    assert page in [index["docnames"][number] for number in numbers]
