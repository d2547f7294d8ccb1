"""What the README says is what the programs say."""

import re
from pathlib import Path

import pytest

from hub.privacy import NOT_YET, PRIVATE, PUBLIC, TABLE

KOREAN_STATUS = {PRIVATE: "비공개", PUBLIC: "공개", NOT_YET: "아직 공개"}


def table_rows(path: Path, heading: str) -> list[list[str]]:
    section = path.read_text(encoding="utf-8").split(heading, 1)[1].split("\n## ", 1)[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")][1:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_the_privacy_table_is_the_consoles(repo_root):
    english = [[row.datum_en, row.status, row.who_en, row.note_en] for row in TABLE]
    assert table_rows(repo_root / "README.md", "## What is private today") == english
    korean = [[row.datum_ko, KOREAN_STATUS[row.status], row.who_ko, row.note_ko] for row in TABLE]
    assert table_rows(repo_root / "README.ko.md", "## 오늘 비공개인 것") == korean


@pytest.mark.parametrize("name", ["README.md", "README.ko.md"])
def test_every_link_and_picture_is_there(repo_root, name):
    targets = re.findall(r"\]\(([^)#]+)\)", (repo_root / name).read_text(encoding="utf-8"))
    assert targets and all((repo_root / target).exists() for target in targets)


@pytest.mark.parametrize("name", ["README.md", "README.ko.md"])
def test_the_two_commands_are_there_and_real(repo_root, name):
    makefile = (repo_root / "Makefile").read_text(encoding="utf-8")
    for target in ("run", "test"):
        assert f"    make {target} " in (repo_root / name).read_text(encoding="utf-8")
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)
