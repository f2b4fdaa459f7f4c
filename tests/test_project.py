"""What strangers meet first: metadata, links, the changelog, the chores."""

from __future__ import annotations

import datetime
import json
import re
import shutil
import tomllib
from typing import Any

import pytest

import sao_onnx
from tests.conftest import ROOT
from tests.documents import documents, prose
from tests.processes import succeed

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
DOCUMENTS = documents()
CHANGELOG = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(path):
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(path)):
        file, _, heading = target.partition("#")
        if re.match(r"[a-z]+:", target):
            continue
        found = path.parent / file if file else path
        assert found.exists(), target
        if heading:
            assert heading in _anchors(prose(found)), target


def _anchors(text):
    headings = re.findall(r"^#+ (.+)$", text, flags=re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_links_on_an_index(monkeypatch, tmp_path):
    """Whoever releases says where the repository is; then every link of the README works anywhere."""
    pytest.importorskip("hatchling")
    from hatch_build import Addresses

    shutil.copy(ROOT / "README.md", tmp_path)
    monkeypatch.delenv("SAO_ONNX_REPOSITORY", raising=False)
    monkeypatch.delenv("SAO_ONNX_CONTACT", raising=False)
    plain: dict[str, Any] = {"version": "1.2.3"}
    Addresses(str(tmp_path), {}).update(plain)
    people = [{"name": "sao-onnx contributors"}]
    readme = {"content-type": "text/markdown", "text": _readme()}
    assert plain == {"version": "1.2.3", "readme": readme, "authors": people, "maintainers": people}
    monkeypatch.setenv("SAO_ONNX_REPOSITORY", "https://example.invalid/a/b/")
    found: dict[str, Any] = {"version": "1.2.3"}
    Addresses(str(tmp_path), {}).update(found)
    assert found["urls"]["Source"] == "https://example.invalid/a/b"
    text = found["readme"]["text"]
    assert not [target for target in re.findall(r"\]\(([^)\s]+)\)", text) if not target.startswith(("https://", "#"))]
    assert "[ARCHITECTURE.md](https://example.invalid/a/b/blob/v1.2.3/ARCHITECTURE.md)" in text
    assert "](https://example.invalid/a/b/raw/v1.2.3/bench/results/stages-zen4-avx512-vnni.png)" in text
    # Nothing but the links is another.
    assert re.sub(r"https://example\.invalid/a/b/(blob|raw)/v1\.2\.3/", "", text) == _readme()
    # An archive of the source brings what was said when it was made.
    packed: dict[str, Any] = {"version": "1.2.3", "readme": "kept", "urls": {"Source": "kept"}}
    packed |= {"authors": ["kept"], "maintainers": ["kept"]}
    Addresses(str(tmp_path), {}).update(packed)
    assert packed == {
        "version": "1.2.3",
        "readme": "kept",
        "urls": {"Source": "kept"},
        "authors": ["kept"],
        "maintainers": ["kept"],
    }


def test_whom_to_write_to(monkeypatch):
    """An address is in the metadata where whoever releases has one."""
    pytest.importorskip("hatchling")
    from hatch_build import Addresses

    for contact, expected in (
        ("", {"name": "sao-onnx contributors"}),
        ("a@b.invalid", {"name": "sao-onnx contributors", "email": "a@b.invalid"}),
    ):
        monkeypatch.setenv("SAO_ONNX_CONTACT", contact)
        found: dict[str, Any] = {"version": "1.2.3"}
        Addresses(str(ROOT), {}).update(found)
        assert found["authors"] == found["maintainers"] == [expected]


def test_what_the_source_archive_carries():
    """What git knows, but for what is about the repository alone; and nothing else that lies around."""
    pytest.importorskip("hatchling")
    from hatchling.builders.sdist import SdistBuilder

    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("this is no checkout")
    packed = {file.distribution_path for file in SdistBuilder(str(ROOT)).recurse_included_files()}
    known = set(succeed(["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT).splitlines())
    known -= {name for name in known if not (ROOT / name).exists()}
    assert packed - known == set()
    alone = {".ci/run", ".gitattributes", ".gitignore", ".pre-commit-config.yaml", "pyproject.toml"}
    assert known - packed - alone == set()


def _readme():
    return (ROOT / "README.md").read_text(encoding="utf-8")


def pythons() -> list[str]:
    """The releases of Python that the metadata name, in their order."""
    found = [
        text.rpartition(" ")[2] for text in PROJECT["classifiers"] if text.startswith("Programming Language :: Python :: 3.")
    ]
    return sorted(found, key=lambda release: int(release.partition(".")[2]))


def test_metadata():
    releases = pythons()
    assert PROJECT["requires-python"] == f">={releases[0]}"
    assert releases == [f"3.{minor}" for minor in range(11, 11 + len(releases))]
    assert len(set(PROJECT["keywords"])) == len(PROJECT["keywords"])


SECTION = re.compile(r"\[(?P<version>Unreleased|\d+\.\d+\.\d+)\](?: - (?P<date>\d{4}-\d\d-\d\d))?(?: \[YANKED\])?")
KINDS = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def changelog_problems(text: str) -> list[str]:
    """In what a text is no changelog of the form of Keep a Changelog 1.1."""
    title, *sections = re.split(r"^## ", text, flags=re.M)
    problems = [] if title.startswith("# Changelog\n") else ["its title is not Changelog"]
    versions: list[tuple[float, ...]] = []
    dates: list[datetime.date] = []
    *sections, links = _without_links(sections)
    problems += _link_problems(links, sections)
    for section in sections:
        heading, _, body = section.partition("\n")
        found = SECTION.fullmatch(heading)
        if not found or (found["version"] == "Unreleased") != (found["date"] is None):
            problems.append(f"the heading {heading!r}")
            continue
        if found["date"]:
            dates.append(datetime.date.fromisoformat(found["date"]))
        released = found["date"] is not None
        versions.append(tuple(map(float, found["version"].split("."))) if released else (float("inf"),))
        intro, *kinds = re.split(r"^### ", body, flags=re.M)
        names = [kind.partition("\n")[0] for kind in kinds]
        problems += [f"{heading}: {name!r}" for name in names if name not in KINDS or names.count(name) > 1]
        problems += [f"{heading}: text outside of its parts"] if intro.strip() else []
        for kind in kinds:
            lines = [line for line in kind.splitlines()[1:] if line]
            problems += [f"{heading}: {line!r}" for line in lines if not re.match(r"- \S|  +\S", line)]
            problems += [] if lines else [f"{heading}: an empty part"]
    problems += [] if dates == sorted(dates, reverse=True) else ["the order of its dates"]
    return problems + ([] if versions == sorted(set(versions), reverse=True) else ["the order of its versions"])


LINK = re.compile(r"^\[(?P<name>[^\]]+)\]: (?P<address>\S+)$", re.M)
"""An address at the end of a changelog, as of `[1.0.0]: https://...`."""


def _without_links(sections: list[str]) -> list[str]:
    """The sections without the addresses at the end, which follow as the last element."""
    links = "\n".join(match[0] for section in sections for match in LINK.finditer(section))
    return [*(LINK.sub("", section) for section in sections), links]


def _link_problems(links: str, sections: list[str]) -> list[str]:
    """Where some versions have an address, all have one, with the version in it. Whoever has no repository yet has none."""
    addresses = {match["name"]: match["address"] for match in LINK.finditer(links)}
    if not addresses:
        return []
    names = [found["version"] for section in sections if (found := SECTION.fullmatch(section.partition("\n")[0]))]
    problems = [f"no address of {name}" for name in names if name not in addresses]
    problems += [f"the address of {name}, which is no version" for name in addresses if name not in names]
    return problems + [
        f"the address of {name}"
        for name, address in addresses.items()
        if not address.startswith("https://") or (name != "Unreleased" and name not in address)
    ]


def test_the_changelog_is_one():
    assert changelog_problems(CHANGELOG) == []
    newest = re.search(r"^## \[([^\]]+)\]", CHANGELOG, flags=re.M)
    assert newest is not None
    assert newest[1] in ("Unreleased", sao_onnx.__version__)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("# Changelog", "# News"),
        ("## [1.0.0] - 2025-02-03", "## 1.0.0"),
        ("## [1.0.0] - 2025-02-03", "## [1.0.0] - unreleased"),
        ("## [1.0.0] - 2025-02-03", "## [1.0.0] - 03.02.2025"),
        ("## [1.0.0] - 2025-02-03", "## [0.8.0] - 2025-02-03"),
        ("### Fixed", "### Bugs"),
        ("### Fixed", "### Added"),
        ("- A thing\n", ""),
        ("- A thing", "A thing"),
        ("### Added", "words\n\n### Added"),
        ("2025-01-02", "2025-03-02"),
        ("[0.9.0]: https://example.invalid/v0.9.0\n", ""),
        ("[0.9.0]: https", "[0.9.0]: http"),
        ("/v1.0.0", "/v1.0.1"),
        (
            "[Unreleased]: https://example.invalid/main\n",
            "[Unreleased]: https://example.invalid/main\n[0.1.0]: https://a/0.1.0\n",
        ),
    ],
)
def test_what_is_no_changelog(before, after):
    text = (
        "# Changelog\n\n## [Unreleased]\n\n## [1.0.0] - 2025-02-03\n\n### Added\n- A thing\n  of two lines\n\n### Fixed\n- B\n"
    )
    text = text.replace("\n  of two lines", "") if not after else text
    text += "\n## [0.9.0] - 2025-01-02 [YANKED]\n\n### Removed\n- C\n\n"
    text += "".join(
        f"[{name}]: https://example.invalid/{place}\n"
        for name, place in (("Unreleased", "main"), ("1.0.0", "v1.0.0"), ("0.9.0", "v0.9.0"))
    )
    assert changelog_problems(text) == []
    assert changelog_problems(text.replace(before, after, 1))


def chores() -> set[str]:
    """The targets of the Makefile that do something."""
    return set(re.search(r"^\.PHONY: (.+)$", MAKEFILE, flags=re.M)[1].split())  # type: ignore[index]


def test_make_tells_every_chore():
    if shutil.which("make") is None or shutil.which("awk") is None:
        pytest.skip("there is no make")
    told = succeed(["make", "--no-print-directory"], cwd=ROOT)
    assert {line.split()[1] for line in told.splitlines()} == chores()
    assert all(re.fullmatch(r"make [a-z-]+ +\S.*", line) for line in told.splitlines())


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_chores_that_are_named_exist(path):
    text = path.read_text(encoding="utf-8")
    assert set(re.findall(r"(?<=`)make ([a-z-]+)", text)) <= chores()
    assert set(re.findall(r"^make ([a-z-]+)(?= *(?:#|[A-Z]+=|$))", text, flags=re.M)) <= chores()


def test_what_the_bug_form_asks_for(command):
    assert "sao-onnx doctor --json" in (ROOT / ".github" / "ISSUE_TEMPLATE" / "bug.yml").read_text(encoding="utf-8")
    done = command("doctor", "--json")
    assert done.returncode == 0, done.stderr
    assert isinstance(json.loads(done.stdout), dict)


def test_a_checkout_is_the_same_on_every_system():
    """Where git turns ends of lines into those of Windows, bundles would be damaged."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("this is no checkout")
    paths = ["README.md", "models/miniature/bundle/tokenizer.json", "engine/sao_onnx/bundles/sao-tiny/manifest.json"]
    told = succeed(["git", "check-attr", "text", "--", *paths], cwd=ROOT)
    assert told.splitlines() == [f"{path}: text: unset" for path in paths]
