"""The pages name files that exist, and programs' flags that exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), ROOT / "recipes" / "README.md"])
FOLDERS = "keras_hybrid|recipes|tflite|comparisons|tests|notebooks|docs"
PATH = re.compile(rf"(?<![\w/.<])(?:{FOLDERS})/[\w/.-]*\w/?(?![\w<*])")
COMMAND = re.compile(
    r"python (?P<program>(?:recipes|tflite|comparisons)/\w+\.py)(?P<rest>(?:\\\n|[^\n`])*)"
)
TO_BE_MADE = {"keras_hybrid/tasks", "tests/tasks"}  # by who adds the first head


def named_paths(text):
    """Paths in the repository that a text names."""
    return {found.rstrip("/.") for found in PATH.findall(text) if "<" not in found}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_that_a_page_names_exist(page):
    paths = named_paths(page.read_text()) - TO_BE_MADE
    assert {path for path in paths if not (ROOT / path).exists()} == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_flags_that_a_page_names_are_the_programs_own(page):
    for found in COMMAND.finditer(page.read_text()):
        program = (ROOT / found["program"]).read_text()
        known = set(re.findall(r"flags\.DEFINE_\w+\(\s*\"(\w+)\"", program))
        rest = re.sub(r"'[^']*'", "", found["rest"].split("|")[0])
        for flag in re.findall(r"--(\w+)", rest):
            assert flag in known or flag in ("help", "table"), f"{found['program']} --{flag}"


def test_the_checks_see_what_is_wrong():
    assert named_paths("see `docs/no_such_page.md`.") == {"docs/no_such_page.md"}
    assert named_paths("`recipes/<kind>/<family>.py` and runs/docs/a") == set()
