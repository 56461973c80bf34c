"""The report of a preprocessed dataset: one HTML file that needs nothing else."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import date
from pathlib import Path
from xml.etree.ElementTree import Element

from delightsam_pipeline import __version__
from delightsam_pipeline.data.dataset import Dataset
from delightsam_pipeline.errors import listed
from delightsam_pipeline.files import digest, read_json, write_text
from delightsam_pipeline.plans.findings import Finding, counted, place
from delightsam_pipeline.plans.fingerprint import Fingerprint
from delightsam_pipeline.plans.plan import Plan
from delightsam_pipeline.preprocessing.report import distributions
from delightsam_pipeline.preprocessing.report.cases import Sample, show
from delightsam_pipeline.preprocessing.report.markup import element, html, section, table
from delightsam_pipeline.preprocessing.report.pictures import COLOURS, colour
from delightsam_pipeline.preprocessing.report.samples import choose
from delightsam_pipeline.preprocessing.report.sentences import sentences
from delightsam_pipeline.preprocessing.report.template import PAGE
from delightsam_pipeline.preprocessing.store import Store

NAME = "report.html"
_HEAD = 1000  # characters of a report in which its digest stands
_FILES = {
    "fingerprint.json": "what was measured of every case",
    "plan.json": "every decision with its reason",
    "splits_final.json": "the folds",
    "groups.json": "which cases belong together",
    "cases/": "the preprocessed slices and labels",
}
_MOST_NAMED, _MOST_CLASSES, _MOST_FINDINGS = 8, 12, 60


def write_report(dataset: Dataset, folder: Path, train: str) -> Path:
    """Write report.html into a dataset's preprocessed folder, unless it stands there for what the folder holds.

    train : what dlsam_train is to be given for this dataset. Only the images of the sample cases are read.
    Raises UserError when the folder is not completely preprocessed, or an image can no longer be read.
    """
    file = folder / NAME
    parts = {name: read_json(folder / name) for name in ("fingerprint.json", "plan.json", "splits_final.json")}
    made_from = digest(parts, train, __version__)
    if _stands(file, made_from):
        return file
    print_ = Fingerprint.model_validate(parts["fingerprint.json"])
    body = _body(dataset, Store.load(folder), print_, train)
    title = html(element("title", f"{print_.dataset}: report")).removeprefix("<title>").removesuffix("</title>")
    text = PAGE.substitute(digest=made_from, title=title, body="\n".join(map(html, body)))
    write_text(file, text)
    return file


def _stands(file: Path, made_from: str) -> bool:
    """Whether there is a report of the same inputs."""
    if not file.is_file():
        return False
    with open(file, encoding="utf-8", errors="replace") as opened:
        return f'content="{made_from}"' in opened.read(_HEAD)


def _body(dataset: Dataset, store: Store, print_: Fingerprint, train: str) -> list[Element]:
    plan, cases = store.plan, {case.name: case for case in dataset.cases}
    chosen = choose(print_, plan.targets)
    medians = [numbers.get("median") for numbers in print_.intensities]
    samples = [
        show(cases[name], store.cases[name], plan, medians, reasons, place)
        for place, (name, reasons) in enumerate(chosen.items())
    ]
    main = [
        _findings(print_.findings, dataset.folder),
        _samples(samples, plan),
        _distributions(print_, plan, samples),
        _plan(plan),
        _network(samples, plan),
        _splits(store),
        _files(store.folder, train),
    ]
    return [_header(print_, plan), element("main", *main), element("footer", _footer())]


def _header(print_: Fingerprint, plan: Plan) -> Element:
    smallest, largest = distributions.extremes(print_.cases)
    size = f"{smallest} to {largest}" if smallest != largest else smallest
    facts = {
        "Modality": f"{print_.modality}, confidence {print_.modality_confidence:.0%}",
        "Evidence": print_.modality_evidence,
        "Cases": f"{len(print_.cases)}, {size} {'voxels (z y x)' if print_.physical else 'pixels (rows, columns)'}",
        "Channels": ", ".join(print_.channel_names),
        "Stored as": _counted(case.dtype for case in print_.cases),
        "File axes": _counted(case.orientation for case in print_.cases),
        "Classes": listed(plan.targets.classes, _MOST_CLASSES),
    }
    links = {"findings": "Findings", "samples": "Samples", "distributions": "Distributions", "plan": "Plan"}
    links |= {"network": "What the network sees", "splits": "Splits", "files": "Files"}
    parts = [part for name, text in facts.items() if text for part in (element("dt", name), element("dd", text))]
    return element(
        "header",
        element("h1", print_.dataset),
        element("p", "Research software, not for clinical use.", class_="notice"),
        element("dl", *parts),
        element("nav", *(element("a", text, href=f"#{name}") for name, text in links.items()), aria_label="Sections"),
    )


def _counted(words: Iterable[str]) -> str:
    """Each word once, the most frequent first, with how often it comes where there are several."""
    counts = Counter(words).most_common()
    return ", ".join(f"{word} ({count})" if len(counts) > 1 else word for word, count in counts)


def _footer() -> str:
    return f"Made by delightsam-pipeline {__version__} on {date.today().isoformat()}. Not for clinical use."


def _findings(findings: Sequence[Finding], folder: Path) -> Element:
    if not findings:
        return section("findings", "Findings", element("p", "Every case was read and checked. Nothing was found."))
    lines = []
    for found in sorted(findings, key=lambda finding: finding.level)[:_MOST_FINDINGS]:
        lines.append((found.level, found.case or "-", place(found, folder), found.problem, found.fix))
    head = ("level", "case", "file", "problem", "what to do")
    rest = len(findings) - len(lines)
    more = element("p", f"{rest} more stand in fingerprint.json.") if rest else None
    return section("findings", "Findings", table(f"Found in the data: {counted(findings)}", head, lines), more)


def _legend(plan: Plan) -> Element:
    names = plan.targets.classes
    items = [
        element("li", element("span", class_="swatch", style=f"background:{colour(k)}"), name)
        for k, name in enumerate(names)
    ]
    if len(names) > len(COLOURS):
        items.append(element("li", f"(colours come again after {len(COLOURS)} classes)"))
    return element("ul", *items, class_="legend")


def _samples(samples: Sequence[Sample], plan: Plan) -> Element:
    text = "Cases that span the dataset. Outlines are the masks; beside or below is the same without them."
    if plan.physical:
        text += (
            " Planes go through the middle of the foreground, in true proportions and at one scale, as radiologists "
            "show them: the patient's right is on the left of the picture (R, L), front (A) and head (S) are on top."
        )
    pictures = [sample.pictures for sample in samples]
    return section("samples", "Sample cases", element("p", text), _legend(plan), *pictures)


def _distributions(print_: Fingerprint, plan: Plan, samples: Sequence[Sample]) -> Element:
    values = ([s.name for s in samples], [s.whole for s in samples], [s.foreground for s in samples])
    groups = {
        "Size and spacing": distributions.geometry(print_, plan),
        "Intensity": distributions.intensities(print_, plan, *values),
        "Classes": distributions.classes(print_, plan),
    }
    parts = [
        part
        for name, charts in groups.items()
        for part in (element("h3", name), element("div", *charts, class_="charts"))
    ]
    text = "Dashed red lines are what the plan took from a distribution. "
    text += (
        "In rows, a tick is a case (or a percentile of its values), the band holds the middle half, the line across is "
        "the median. Distributions of voxels are those of the sample cases."
    )
    return section("distributions", "Distributions", element("p", text), *parts)


def _plan(plan: Plan) -> Element:
    parts = []
    for name, said, reason in sentences(plan):
        parts += [element("dt", name), element("dd", said), element("dd", f"Why: {reason}.", class_="reason")]
    return section("plan", "The plan", element("dl", *parts))


def _network(samples: Sequence[Sample], plan: Plan) -> Element:
    text = (
        "The preprocessed slices as the network gets them. Its masks have a quarter of the input's resolution: "
        "the last picture shows what a perfect answer on that grid would be, back on the image; where white shows, "
        "the grid has lost a piece of the mask. Dashed blue is where the image ends and its padding begins."
    )
    parts = [sample.network for sample in samples]
    return section("network", "What the network sees", element("p", text), _legend(plan), *parts)


def _splits(store: Store) -> Element:
    lines = []
    for fold, split in enumerate(store.splits):
        held = [store.cases[name] for name in split["val"]]
        groups = {case.group or case.name for case in held}
        counts = {name: sum(bool(c.present[k]) for c in held) for k, name in enumerate(store.plan.targets.classes)}
        absent = [name for name, count in counts.items() if not count]
        classes = ", ".join(f"{name} {count}" for name, count in counts.items())
        if len(counts) > _MOST_NAMED:
            classes = f"none with {', '.join(absent)}" if absent else "all classes"
        lines.append((str(fold), str(len(split["train"])), str(len(held)), str(len(groups)), classes))
    head = ("fold", "train on", "validate on", "groups in validation", "validation cases with each class")
    return section("splits", "Splits", table("Folds, in cases", head, lines))


def _files(folder: Path, train: str) -> Element:
    there = {name: text for name, text in _FILES.items() if (folder / name).exists()}
    items = [element("li", element("a", name, href=name), f": {text}") for name, text in there.items()]
    command = f"dlsam_train {shlex.quote(train)} 0"
    return section(
        "files",
        "Files",
        element("p", "Beside this page, in ", element("code", folder.name), ":"),
        element("ul", *items),
        element("p", "Next: ", element("code", command)),
    )
