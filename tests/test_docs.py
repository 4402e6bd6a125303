"""The documents: links, anchors, pictures, commands, spelling; and what must not stand in any file.

Blocks marked `sh` are run, by the test that is named here for each document. Blocks marked `console`, with `$` before
each command, and `powershell` are not run. There too, and in commands within a line, the files, flags and targets have
to be known.
"""

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path, PurePosixPath
from posixpath import normpath
from urllib.parse import unquote

import pytest
import spylls.hunspell
import yaml
from markdown_it import MarkdownIt
from markdown_it.token import Token

from conftest import HOME, tracked

RUN_BY = {
    "README.md": "tests/test_readme.py",
    "docs/instructor.md": "tests/test_instructor.py",
    "docs/qc.md": "tests/test_docs_qc.py",
    "docs/scaling.md": "tests/test_scaling.py",
    "workshop_server/README.md": "tests/server/test_operations.py",
}
LANGUAGES = {"sh", "console", "powershell", "text", "python", "pycon", "diff", "toml", "yaml", "json", "csv", "graphql"}
MARKDOWN = MarkdownIt("commonmark").enable("table")
ELSEWHERE = re.compile(r"[a-z]+:")  # an address with a scheme leads out of the repository
LARGEST = 3_000_000  # bytes
MACHINE = re.compile(  # a folder of a machine (nobody is called ada or attendee), or the host of a package index
    r"(?<![\w.~*])/(?:home|root|Users|work|opt)/(?!(?:ada|attendee)\b)\w|\b[A-Z]:\\+Users\\|pypi\.org|"
    r"--(?:extra-)?index-url|python[h]osted|https?://\S*(?<!\.invalid)/simple\b", re.MULTILINE)


TRACKED = tracked()
DOCUMENTS = [name for name in TRACKED if name.endswith((".md", ".ipynb"))]
PLACES = {str(folder) for name in TRACKED for folder in (PurePosixPath(name), *PurePosixPath(name).parents)}


def content(name: str) -> str:
    """A document's Markdown, without the lines at the top that are for programs."""
    text = (HOME / name).read_text(encoding="utf-8")
    if name.endswith(".ipynb"):
        text = "\n\n".join("".join(cell["source"]) for cell in json.loads(text)["cells"]
                           if cell["cell_type"] == "markdown")
    return re.sub(r"\A---\n.*?\n---\n", "", text, flags=re.DOTALL)


def pieces(name: str) -> Iterator[Token]:
    """The parts of a document in their order, those within a line too."""
    for token in MARKDOWN.parse(content(name)):
        yield token
        yield from token.children or []


def blocks(name: str, *languages: str) -> list[str]:
    """The blocks of a document in these languages."""
    return [token.content for token in pieces(name) if token.type == "fence" and token.info in languages]


def words_of(token: Token) -> str:
    """What a reader sees of a line."""
    return "".join(child.content for child in token.children if child.type in ("text", "code_inline"))


def anchors(name: str) -> set[str]:
    """Where a link into a document may lead: its headings as GitHub names them, and its own anchors."""
    tokens = MARKDOWN.parse(content(name))
    found = set()
    for opening, heading in pairwise(tokens):
        if opening.type == "heading_open":
            slug = re.sub(r"[^\w\- ]", "", words_of(heading).lower()).replace(" ", "-")
            number = 0
            while (unique := f"{slug}-{number}" if number else slug) in found:
                number += 1
            found.add(unique)
    return found | set(re.findall(r"<[^>]+\b(?:id|name)=\"([^\"]+)\"", content(name)))


def links(name: str) -> list[str]:
    """The addresses of a document's links and pictures."""
    found = [str(token.attrs.get("href") or token.attrs.get("src")) for token in pieces(name)
             if token.type in ("link_open", "image")]
    html = "".join(token.content for token in pieces(name) if token.type in ("html_block", "html_inline"))
    return [*found, *re.findall(r"\b(?:href|src)=\"([^\"]+)\"", html)]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_lead_somewhere(name):
    for link in links(name):
        if ELSEWHERE.match(link):
            continue
        path, _, anchor = unquote(link).partition("#")
        target = normpath(f"{PurePosixPath(name).parent}/{path}") if path else name
        assert target in PLACES, f"{link}: there is no {target} among the tracked files"
        if anchor:
            assert anchor in anchors(target), f"{link}: {target} has {sorted(anchors(target))}"


@pytest.mark.parametrize("name", DOCUMENTS)
def test_pictures_are_told_to_those_who_do_not_see_them(name):
    told = [token.content for token in pieces(name) if token.type == "image"]
    html = "".join(token.content for token in pieces(name) if token.type in ("html_block", "html_inline"))
    for picture in re.findall(r"<img\b[^>]*>", html):
        told.append("".join(re.findall(r"\balt=\"([^\"]*)\"", picture)))
    assert all(len(words.split()) >= 3 for words in told), told


@pytest.mark.parametrize("name", DOCUMENTS)
def test_blocks_say_what_they_are(name):
    for token in pieces(name):
        if token.type == "fence":
            assert token.info in LANGUAGES, f"line {token.map[0] + 1}: {token.info!r} is not among {sorted(LANGUAGES)}"
    for code in blocks(name, "python"):
        ast.parse(code)
    for lines in blocks(name, "console"):
        assert "$ " in lines, f"no command begins with $ in:\n{lines}"


def commands(name: str) -> Iterator[str]:
    """Every command that a document shows, whether it is run or not."""
    for token in pieces(name):
        if token.type == "fence" and token.info in ("sh", "console", "powershell", "text"):
            yield from token.content.replace("\\\n", " ").splitlines()
        elif token.type == "code_inline":
            yield token.content


@pytest.mark.parametrize("name", DOCUMENTS)
def test_commands_name_what_there_is(name):
    targets = re.findall(r"^([\w-]+):", (HOME / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    shared = (HOME / "slideqc" / "flags.py").read_text(encoding="utf-8")
    for command in commands(name):
        for target in re.findall(r"(?:^|[$;&] *)make +([a-z-]+)\b(?! [a-z]+ )", command):
            assert target in targets, f"{command}: no such target in the Makefile"
        for script, flags in re.findall(r"\b(?:python3?|sh|py) +((?:[\w-]+/)*\w+\.(?:py|sh))\b([^|>;&]*)", command):
            if script.startswith("my_"):
                continue  # the reader's own
            assert script in TRACKED, f"{command}: there is no {script}"
            known = (HOME / script).read_text(encoding="utf-8") + shared
            for flag in re.findall(r"(?<!\S)--[a-z][\w-]*", flags):
                assert re.search(rf"{flag}\b(?!-)", known), f"{command}: {script} has no flag {flag}"


@pytest.mark.parametrize("name", DOCUMENTS)
def test_code_names_files_that_there_are(name):
    """`slideqc/slides/reading.py` within a line is a file of the repository."""
    folders = "|".join(re.escape(place) for place in PLACES if (HOME / place).is_dir() and place != ".")
    for token in pieces(name):
        if token.type == "code_inline" and re.fullmatch(rf"(?:{folders})/[\w./-]*", token.content):
            assert token.content.rstrip("/") in PLACES, token.content


@pytest.mark.parametrize("name", [name for name in DOCUMENTS if blocks(name, "sh")])
def test_blocks_marked_sh_are_run(name):
    assert name in RUN_BY, "name a test that runs them; or mark them console, with $ before each command"
    test = (HOME / RUN_BY[name]).read_text(encoding="utf-8")
    assert PurePosixPath(name).name in test and "```sh" in test


@pytest.fixture(scope="module")
def dictionary():
    """American English, as far as Hunspell knows it."""
    return spylls.hunspell.Dictionary.from_files(str(Path(spylls.hunspell.__file__).parent / "data" / "en" / "en_US"))


@pytest.mark.parametrize("name", DOCUMENTS)
def test_words_are_spelled_right(name, dictionary):
    ours = set((HOME / "tests" / "spelling.txt").read_text(encoding="utf-8").split())
    wrong = set()
    for token in pieces(name):
        if token.type != "text":
            continue
        prose = re.sub(r"\S*\w[./_=@]\w\S*", " ", token.content)  # no names of files, no addresses
        for word in re.findall(r"[^\W\d_]+(?:['’][^\W\d_]+)*", prose):
            bare = re.sub(r"['’]s?$", "", word)
            known = {word, bare, bare.lower(), bare.capitalize()} & ours
            if not known and not dictionary.lookup(word.replace("’", "'")):
                wrong.add(word)
    assert not wrong, f"misspelled, or to be added to tests/spelling.txt: {sorted(wrong)}"


def test_code_holds_no_known_misspelling():
    """What people mistype again and again; tests/broken/ is wrong on purpose."""
    names = [name for name in TRACKED if not name.startswith("tests/broken/") and not name.endswith((".svg", ".pdf"))]
    done = subprocess.run([sys.executable, "-m", "codespell_lib", "--ignore-words-list", "checkin", *names],
                          cwd=HOME, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_no_file_names_a_machine_or_an_index():
    for name in TRACKED:
        try:
            text = (HOME / name).read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # a picture
        found = [line for line in text.splitlines() if MACHINE.search(line)]
        assert not found, f"{name}: {found[0][:200]}"


def test_files_are_small():
    assert [name for name in TRACKED if (HOME / name).stat().st_size > LARGEST] == []


def test_the_readme_stays_short():
    assert len((HOME / "README.md").read_text(encoding="utf-8").splitlines()) < 350


def test_citation():
    """The file that says how to cite this holds what version 1.2.0 of its format asks for, and the newest release."""
    told = yaml.safe_load((HOME / "CITATION.cff").read_text(encoding="utf-8"))
    assert told["cff-version"] == "1.2.0" and told["message"] and told["title"] in content("README.md")
    assert told["type"] == "software" and told["license"] == "MIT"
    assert all(set(author) == {"name"} for author in told["authors"])
    assert f"## {told['version']}" in content("CHANGELOG.md")


@pytest.mark.parametrize("name", [name for name in TRACKED if name.startswith(".github/ISSUE_TEMPLATE/")])
def test_issue_templates_have_what_is_shown_of_them(name):
    head = re.match(r"---\n(.*?)\n---\n", (HOME / name).read_text(encoding="utf-8"), re.DOTALL)
    assert head and set(yaml.safe_load(head[1])) >= {"name", "about"}
