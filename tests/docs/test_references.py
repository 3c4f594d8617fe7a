"""What code and tests cite is in docs/reference, or is a named public document."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "docs" / "reference"
CITING = ("broker", "tests", "bench", "deploy", "systemd", "docs")
CONTRACT = "sdk-client-contract"
NUMBERED = (CONTRACT, "namespace-api", "aws-api")

PUBLIC = re.compile(
    r"""
    RFC\ \d+ | PEP\ \d+ | [\w.-]+\(\d\)                    # standards, manual pages
    | (linux|asm|asm-generic|net|sys)/\w+\.h                  # Linux headers
    | IAM\ (user\ guide|reference|API\ reference|quotas) | Cognito\ API\ reference
    | (systemd|Prometheus|HCL\ native\ syntax),\ "[^"]+" | LXC,\ [\w.]+\(\d\)
    """,
    re.VERBOSE,
)
OURS = re.compile(r"(sdk-client-contract|namespace-api|aws-api|guide-flows|interface)\b|C-\d")
RULE = re.compile(r"\bC-(\d+)\b")
SECTIONS = re.compile(
    r"\b(namespace-api|aws-api)(?:\.md)?,? ((?:\d+(?:\.\d+)?(?:\ \([^)]*\))?(?:, | to | and )?)+)"
)
CONTRACT_SECTION = re.compile(r"\bsdk-client-contract ([A-D]\.\d+)")
INTERFACE = re.compile(r'\binterface, (?:"([^"]+)"|``([^`]+)``)')
TABLES = ("first", "second", "third", "last")


def files() -> Iterator[tuple[str, str]]:
    """Yield path and text of every file that may cite, this test apart."""
    for folder in CITING:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in {".py", ".md", ".service", ".socket"} and path != Path(__file__):
                yield str(path.relative_to(ROOT)), path.read_text()


def headings(document: str) -> set[str]:
    """Return the number at the front of each heading of a reference document."""
    text = (REFERENCE / f"{document}.md").read_text()
    return {match[1].rstrip(".") for match in re.finditer(r"^#+ (\S+)", text, re.MULTILINE)}


def test_the_contract_has_its_rules_one_to_ninety() -> None:
    rules = {heading for heading in headings(CONTRACT) if RULE.fullmatch(heading)}

    assert rules == {f"C-{number}" for number in range(1, 91)}


def test_every_rule_of_the_clients_that_is_cited_has_a_heading() -> None:
    known = headings(CONTRACT)

    lost = [
        f"{path}: {rule[0]}"
        for path, text in files()
        for rule in RULE.finditer(text)
        if rule[0] not in known
    ]

    assert lost == []


def test_every_rule_before_those_about_proof_has_a_test_that_bears_its_number() -> None:
    tests = "".join(text for path, text in files() if path.startswith("tests/"))
    tested = {int(number) for number in re.findall(r"def test_c_0*(\d+)_", tests)}

    assert set(range(1, 87)) - tested == set()


@pytest.mark.parametrize("document", NUMBERED)
def test_every_section_that_is_cited_has_a_heading(document: str) -> None:
    known = headings(document)

    cited = [(path, section) for path, text in files() for section in sections(document, text)]

    assert cited
    assert [f"{path}: {section}" for path, section in cited if section not in known] == []


def sections(document: str, text: str) -> Iterator[str]:
    """Yield the section numbers of *document* that *text* cites."""
    flat = " ".join(text.split())
    if document == CONTRACT:
        yield from CONTRACT_SECTION.findall(flat)
        return
    for name, numbers in SECTIONS.findall(flat):
        if name == document:
            yield from re.findall(r"\d+(?:\.\d+)?", re.sub(r"\([^)]*\)", "", numbers))


def test_what_is_cited_of_the_interface_stands_there() -> None:
    interface = (REFERENCE / "interface.md").read_text()

    cited = [
        (path, quoted or code)
        for path, text in files()
        for quoted, code in INTERFACE.findall(" ".join(text.split()))
    ]

    assert cited
    assert [f"{path}: {words}" for path, words in cited if words not in interface] == []


def test_the_guides_tables_that_are_cited_are_there() -> None:
    guide = (REFERENCE / "guide-flows.md").read_text()
    assert len(re.findall(r"^## \d", guide, re.MULTILINE)) == len(TABLES) - 1

    cited = {
        table
        for _, text in files()
        for table in re.findall(r"guide-flows(?:\.md)?, (\w+) tables?\b", " ".join(text.split()))
    }

    assert cited <= set(TABLES)


def test_every_source_is_one_of_ours_or_a_named_public_document() -> None:
    strange = [
        f"{path}: {cited}"
        for path, text in files()
        for cited in re.findall(r"\bSource: ([^\n]{1,60})", text)
        if not (OURS.match(cited) or PUBLIC.match(cited))
    ]

    assert strange == []
