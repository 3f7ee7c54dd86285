"""README and docs: code runs, commands parse, names and files that they give exist."""

import argparse
import contextlib
import importlib
import os
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile
import tomllib

import pytest

from ltjax import cli, config_file, train_arguments
from ltjax.commands import sweep
from ltjax.methods import presets
from ltjax.sweeps import open_sweep, read_grid
from ltjax.train.config import default_config
from ltjax.train.stages import check_stages

ROOT = pathlib.Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCS = sorted((ROOT / "docs").rglob("*.md"))

_FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *DOCS]
CODE = "".join(page.read_text(encoding="utf-8") for page in PAGES)
PROGRAMS = [text for language, text in _FENCED.findall(CODE) if language == "python"]


def _commands(pages: list[pathlib.Path]) -> list[str]:
    """Every different command line of some pages, in order."""
    shell = "".join(
        text
        for page in pages
        for language, text in _FENCED.findall(page.read_text(encoding="utf-8"))
        if language in ("", "bash", "console", "sh")
    )
    lines = shell.replace("\\\n", " ").splitlines()
    return list(dict.fromkeys(line for line in lines if shlex.split(line, True)))


COMMANDS = _commands([ROOT / "README.md", *DOCS])
PROSE = _FENCED.sub("", README)
QUOTED = re.findall(r"`([^`\n]+)`", PROSE)

FRAMEWORKS = {"flax": r"^from flax import nnx", "equinox": r"^import equinox"}


def _framework(program: str) -> str:
    found = [n for n, line in FRAMEWORKS.items() if re.search(line, program, re.M)]
    return found[0] if found else "jax"


def _trains(program: str) -> bool:
    return re.search(r"\b(\w+_)?grad\b", program) is not None


# --- Python


@pytest.mark.parametrize("number", range(len(PROGRAMS)))
def test_program_runs_on_its_own_and_prints_what_it_says(number, tmp_path):
    program = PROGRAMS[number]
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, f"{program}\n{done.stderr}"
    # print(...)  # what it prints: why
    for stated in re.findall(r"^print\(.*\)  # (.+?)(?:: .*)?$", program, re.M):
        assert stated in done.stdout.splitlines()
    if _trains(program):
        losses = [float(text) for text in re.findall(r"\d+\.\d+", done.stdout)]
        assert len(losses) > 1
        assert losses == sorted(losses, reverse=True) and losses[-1] < losses[0]


def test_one_loss_trains_in_three_frameworks():
    programs = [p for p in PROGRAMS if _trains(p) and "logit_adjusted(" in p]
    assert set(map(_framework, programs)) == {"equinox", "flax", "jax"}


# --- Commands


def _subcommands() -> dict[str, argparse.ArgumentParser]:
    (action,) = (
        action
        for action in cli._parser()._actions
        if isinstance(action, argparse._SubParsersAction)
    )
    return action.choices


def _check_make(words):
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z][\w-]*):", makefile, re.M))
    assert set(words) - {word for word in words if "=" in word} <= targets


def _check_ltjax(words):
    if words == ["--version"]:
        return
    args, rest = cli._parser().parse_known_args(words)
    if args.command == "sweep":
        with tempfile.TemporaryDirectory() as place:
            make, grid = sweep.config_maker(args, rest), read_grid(args.grid)
            assert open_sweep(grid, make, place).waiting
        return
    if args.command != "train":
        assert rest == []
        return
    with _data_of(args.data):
        for stage in check_stages(train_arguments.train_config(args, rest)):
            assert stage.config.total


@contextlib.contextmanager
def _data_of(folder):
    """A working directory with images by class in the folder that a command names."""
    if folder is None:
        yield
        return
    import PIL.Image

    with tempfile.TemporaryDirectory() as place, contextlib.chdir(place):
        for path in ("cat/1.png", "cat/2.png", "dog/1.png", "dog/2.png"):
            file = pathlib.Path(folder, path)
            file.parent.mkdir(parents=True, exist_ok=True)
            PIL.Image.new("RGB", (32, 32)).save(file)
        yield


def _check_pip(words):
    assert words[0] == "install"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    own = [word for word in words if word.strip("'").startswith((".", "ltjax"))]
    for extras in re.findall(r"\[([\w,]+)\]", " ".join(own)):
        assert set(extras.split(",")) <= set(project["optional-dependencies"])


def _check_export(words):
    assert re.fullmatch(r"LTJAX_\w+=\S+", words[0])
    package = (path.read_text() for path in (ROOT / "ltjax").rglob("*.py"))
    assert any(words[0].partition("=")[0] in text for text in package)


CHECKS = {
    "make": _check_make,
    "ltjax": _check_ltjax,
    "pip": _check_pip,
    "export": _check_export,
}


@pytest.mark.parametrize("command", COMMANDS)
def test_command_would_be_understood(command, monkeypatch):
    monkeypatch.chdir(ROOT)
    program, *words = shlex.split(command, comments=True)
    if re.fullmatch(r"[A-Z_]+=\S+", program):  # a variable of this command alone
        program, *words = words
    assert program in CHECKS, f"a page shows a command that no test knows: {program}"
    CHECKS[program](words)


def test_commands_named_in_passing_exist():
    for quoted in QUOTED:
        program, *words = quoted.split()
        if program in ("make", "pip"):
            CHECKS[program](words)
        elif program == "ltjax" and words:
            flags = _subcommands()[words[0]]._option_string_actions
            assert {w for w in words if w.startswith("--")} <= set(flags), quoted
        elif program.startswith("--config."):
            config_file._check_names(default_config(), [program])


def test_the_two_commands_come_first():
    assert [line.split()[:2] for line in COMMANDS[:2]] == [
        ["make", "demo"],
        ["make", "test"],
    ]


# --- Names and files


def _method_rows() -> list[list[str]]:
    (section,) = re.findall(r"^## Methods\n(.*?)^## ", README, re.M | re.S)
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[c.strip() for c in line.strip("|").split("|")] for line in lines[2:]]


@pytest.mark.parametrize("row", _method_rows(), ids=lambda row: row[0])
def test_functions_and_presets_of_a_method_exist(row):
    _, _, functions, named = row
    module = None
    for name in re.findall(r"`([^`]+)`", functions):
        *place, attribute = name.split(".")
        if place:
            module = importlib.import_module(".".join(["ltjax", *place]))
        assert hasattr(module, attribute), name
    known = presets.PRESETS | presets.GRADIENT_LABELS
    for name in re.findall(r"`([\w.]+)`", named):
        section, _, field = name.rpartition(".")
        assert field in (default_config()[section] if section else known), name


def _anchors(prose: str) -> set[str]:
    return {
        re.sub(r"\W+", "-", h.lower()) for h in re.findall(r"^#+ (.+)$", prose, re.M)
    }


def _page_id(path: pathlib.Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=_page_id)
def test_links_and_paths_lead_somewhere(page):
    prose = _FENCED.sub("", page.read_text(encoding="utf-8"))
    for target in re.findall(r"\]\(([^)\s]+)\)", prose):
        path, _, anchor = target.partition("#")
        if path.startswith("http"):
            continue
        assert (page.parent / path).exists(), target
        assert path or anchor in _anchors(prose), target
    quoted = " ".join(re.findall(r"`([^`\n]+)`", prose))
    top = "|".join(p.name for p in ROOT.iterdir() if p.is_dir() and p.name[0] != ".")
    for path in re.findall(rf"\b(?:{top})/[\w./-]*\w", quoted):
        assert (ROOT / path).exists(), path


@pytest.mark.parametrize(
    "page", sorted((ROOT / "docs/methods").glob("*.md")), ids=_page_id
)
def test_numbers_of_a_method_are_those_that_tests_check(page):
    tests = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    numbers = re.findall(r"\d*\.\d{5,}", page.read_text(encoding="utf-8"))
    assert len(numbers) > 5
    assert [n for n in numbers if n.lstrip("0") not in tests] == []


def test_the_readme_stays_short():
    assert README.count("\n") < 250
