"""The documents say what is so: commands parse, links lead somewhere, every option and plan entry is explained."""

import importlib.util
import json
import re
import shlex
from pathlib import Path

import pytest

from delightsam_pipeline.commands import (
    convert,
    demo,
    evaluate,
    import_release,
    info,
    plan_and_preprocess,
    predict,
    train,
)
from delightsam_pipeline.data.dataset import load_definitions
from delightsam_pipeline.plans.fingerprint import CaseFacts, Fingerprint
from delightsam_pipeline.plans.modalities import TABLE
from delightsam_pipeline.plans.plan import Augmentation, Normalisation, Plan, Training

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
PARSERS = {
    f"dlsam_{module.__name__.rpartition('.')[2]}": module.parser
    for module in (plan_and_preprocess, train, predict, evaluate, demo, import_release, info, convert)
}

pytestmark = pytest.mark.skipif(not (ROOT / "README.md").exists(), reason="needs the source tree")


def blocks(language: str) -> list:
    """(page, block) of every fenced block of a language in all pages, as parameters."""
    found = [
        (page, block)
        for page in PAGES
        for block in re.findall(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    ]
    return [pytest.param(page, block, id=f"{page.name}-{number}") for number, (page, block) in enumerate(found)]


def without_blocks(page: Path) -> str:
    return re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)


def options(program: str) -> set[str]:
    return {option for action in PARSERS[program]()._actions for option in action.option_strings}


def anchors(page: Path) -> set[str]:
    """The names that headings of a page are linked by."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize(("page", "block"), blocks("bash"))
def test_commands_are_right(page, block):
    targets = re.findall(r"^(\.?\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    for line in block.strip().splitlines():
        program, *arguments = shlex.split(line)
        if program.startswith("dlsam_"):
            PARSERS[program]().parse_args(arguments)
        elif program == "make":
            assert arguments[0] in targets
        elif program == "python" and arguments[0] == "-c":
            compile(arguments[1], str(page), "exec")
        else:
            assert program in ("pip", "python"), f"{line} is not checked by anything"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_options_in_the_text_exist(page):
    every = set().union(*map(options, PARSERS))
    for span in re.findall(r"`([^`\n]+)`", without_blocks(page)):
        program, *words = span.split()
        used = {word.split("=")[0] for word in words if word.startswith("-")}
        if program.startswith("dlsam_"):
            assert used <= options(program), span
        elif program.startswith("--"):
            assert {program} <= every, span


@pytest.mark.parametrize(("page", "block"), blocks("json"))
def test_examples_of_dataset_json_are_read(page, block, tmp_path):
    value = json.loads(block if block.startswith("{") else f"{{{block}}}")
    if not block.startswith("{"):
        value = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "a": 1}, "file_ending": ".png"} | value
    (tmp_path / "dataset.json").write_text(json.dumps(value), encoding="utf-8")
    assert load_definitions(tmp_path / "dataset.json").labels.classes


@pytest.mark.parametrize(("page", "block"), blocks("python"))
def test_python_compiles_and_imports_what_is_there(page, block):
    compile(block, str(page), "exec")
    imports = [line for line in block.splitlines() if line.startswith(("from ", "import "))]
    exec("\n".join(imports), {})


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", without_blocks(page)):
        if link.startswith("https://"):
            continue
        file, _, anchor = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        assert target.exists(), f"{page.name}: {link}"
        assert not anchor or anchor in anchors(target), f"{page.name}: {link}"


def test_every_page_is_reached_from_the_readme():
    reached, new = set(), {ROOT / "README.md"}
    while new:
        page = new.pop()
        reached.add(page)
        for link in re.findall(r"\]\(([^)\s#]+\.md)[^)]*\)", without_blocks(page)):
            if not link.startswith("https://"):
                new |= {(page.parent / link).resolve()} - reached
    assert {page.resolve() for page in PAGES} <= reached


def test_the_reference_of_the_commands_is_up_to_date():
    script = ROOT / "docs" / "make_reference.py"
    specification = importlib.util.spec_from_file_location("make_reference", script)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    text = module.FILE.read_text(encoding="utf-8")
    assert text == module.reference(), "run python docs/make_reference.py"
    for program in PARSERS:
        section = text.partition(f"## {program}\n")[2].partition("\n## ")[0]
        for option in options(program) - {"-h", "--help", "--version", "--verbose"}:
            assert f"`{option}`" in section


@pytest.mark.parametrize(
    ("heading", "model"),
    [("plan.json", Plan), ("normalisation", Normalisation), ("augmentation", Augmentation), ("training", Training)],
)
def test_every_entry_of_a_plan_is_explained(heading, model):
    text = (ROOT / "docs" / "reference" / "plan-json.md").read_text(encoding="utf-8")
    section = text.partition(f"# {heading}\n")[2].partition("\n## ")[0]
    rows = [row.split("|")[1] for row in section.splitlines() if row.startswith("| `")]
    assert set(re.findall(r"`(\w+)`", " ".join(rows))) == set(model.model_fields)


@pytest.mark.parametrize(("heading", "model"), [("fingerprint.json", Fingerprint), ("cases", CaseFacts)])
def test_every_entry_of_a_fingerprint_is_explained(heading, model):
    text = (ROOT / "docs" / "reference" / "fingerprint-json.md").read_text(encoding="utf-8")
    section = text.partition(f"# {heading}\n")[2].partition("\n## ")[0]
    rows = [row.split("|")[1] for row in section.splitlines() if row.startswith("| `")]
    assert set(re.findall(r"`(\w+)`", " ".join(rows))) == set(model.model_fields)


def test_every_modality_is_listed():
    page = (ROOT / "docs" / "reference" / "dataset-json.md").read_text(encoding="utf-8")
    section = page.partition("## Modality\n")[2].partition("\n## ")[0]
    rows = [[cell.strip() for cell in row.split("|")[1:3]] for row in section.splitlines() if row.startswith("| ")]
    listed = {name: set(also.split(", ")) for name, also in rows[1:]}
    spellings = {"xray", "x ray"}  # of X-ray, whose hyphen does not matter
    assert listed == {m.name: set(m.aliases) - spellings for m in TABLE}


def test_the_readme_is_short_and_says_what_it_is_not():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) < 200
    assert "not for clinical use" in text
    assert text.count("<!-- measured:begin -->") == text.count("<!-- measured:end -->") == 1
