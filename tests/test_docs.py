"""The documentation says what the code does: options, keys, statuses, commands, targets."""

import argparse
import dataclasses
import re
import shlex
import tomllib
from pathlib import Path

import pytest

from geofence import cli, config, errors
from geofence.errors import UsageError
from geofence.model import Limits

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(path for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
COMMANDS = (ROOT / "docs/reference/commands.md").read_text()
CONFIGURATION = (ROOT / "docs/reference/configuration.md").read_text()


def verbs() -> dict[str, argparse.ArgumentParser]:
    """Take the verbs' parsers out of the command line's."""
    actions = cli.parser()._actions
    (choices,) = (one.choices for one in actions if isinstance(one, argparse._SubParsersAction))
    return dict(choices)


def options(parser: argparse.ArgumentParser) -> set[str]:
    return {name for action in parser._actions for name in action.option_strings}


def test_every_verb_has_its_section_and_no_other():
    sections = re.findall(r"^### (\w+)$", COMMANDS, re.MULTILINE)
    assert sorted(sections) == sorted(verbs())


def test_every_option_is_described_and_no_other():
    of_code = set().union(*(options(one) for one in [cli.parser(), *verbs().values()]))
    of_page = set(re.findall(r"`(--?[a-z][a-z-]*)", COMMANDS))
    assert of_page == of_code - {"-h", "--help"}


def test_every_error_class_stands_in_the_table_with_its_status():
    for kind in errors.GeofenceError.__subclasses__():
        assert f"| {kind.status} | `{kind.__name__}` |" in COMMANDS
        assert f" {kind.status} " in cli._EPILOG


@pytest.mark.parametrize(
    ("table", "kind"),
    [
        ("judge", Limits),
        ("fetch", config.FetchLimits),
        ("store", config.StoreLimits),
        ("fence.NAME", config._FenceTable),
    ],
)
def test_every_key_is_described_with_its_default(table, kind):
    section = CONFIGURATION.split(f"## [{table}]")[1].split("\n## ")[0]
    rows = dict(re.findall(r"^\| `(\w+)`[ *]*\| (.*?) \|", section, re.MULTILINE))
    fields = {field.name: field for field in dataclasses.fields(kind)}
    assert set(rows) == set(fields)
    for name, field in fields.items():
        if field.default is not dataclasses.MISSING and field.default is not None:
            written = tomllib.loads(f"key = {rows[name].strip('`')}")["key"]
            assert written == field.default, name


def test_the_example_configuration_has_every_key_with_its_default():
    text = (ROOT / "data/geofence.toml").read_text()
    whole = re.sub(r"^# (\w+ = |\[fence.JP.judge\])", r"\1", text, flags=re.MULTILINE)
    found = config.parse(whole, Path("geofence.toml"))
    assert found.limits == Limits()
    assert found.fetch == config.FetchLimits()
    assert found.store == config.StoreLimits()
    tables = tomllib.loads(whole)
    assert set(tables["judge"]) == {field.name for field in dataclasses.fields(Limits)}
    assert set(tables["fetch"]) == {field.name for field in dataclasses.fields(config.FetchLimits)}
    assert set(tables["store"]) == {field.name for field in dataclasses.fields(config.StoreLimits)}
    assert config.parse(text, Path("geofence.toml")).fences[0].countries == ("JP",)


def commands(page: Path) -> list[str]:
    blocks = re.findall(r"^```sh\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [line.strip() for line in lines if line.strip()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_on_a_page_is_one(page):
    for line in commands(page):
        words = shlex.split(line, comments=True)
        if words and words[0] == "geofence":
            try:
                cli.parser().parse_args(words[1:])
            except UsageError as error:
                pytest.fail(f"{line}: {error}")
        if words and words[0] == "make":
            assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE), line


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_on_a_page_leads_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_the_cron_line_is_a_command():
    line = (ROOT / "cron/geofence").read_text().splitlines()[-1]
    *when, user, program = line.split(maxsplit=6)
    assert (len(when), user) == (5, "root")
    cli.parser().parse_args(shlex.split(program)[1:])


def test_the_wheel_would_hold_the_snapshot_and_its_licence():
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    included = pyproject["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    assert set(included) == {"data/snapshot.txt.xz", "data/README.md", "cron"}
    assert all((ROOT / path).exists() for path in included)
    assert (ROOT / "data/snapshot.txt.xz").stat().st_size < 2**20
