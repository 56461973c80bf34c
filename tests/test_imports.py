"""The shape of the package: imports run one way, files stay small, and light commands stay light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import delightsam_pipeline

PACKAGE = Path(delightsam_pipeline.__file__).parent
NAME = "delightsam_pipeline"
MODULES = sorted(PACKAGE.rglob("*.py"))
RANKS = {
    **{"commands": 6, "training": 5, "inference": 4, "evaluation": 3, "preprocessing": 2, "plans": 1, "data": 0},
    **{"errors": -1, "paths": -1, "files": -1, "locks": -1},
}
MAY_IMPORT_MODEL = {"model", "inference", "training", "commands"}
MODEL_MAY_IMPORT = {"model", "errors", "files"}
LONGEST = 300


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room(name: str) -> str:
    """delightsam_pipeline.plans.plan -> plans; the package itself is the empty string."""
    return [*name.split("."), ""][1]


def imported(path: Path, package: str) -> set[str]:
    """Full names of all modules of this package that a file imports, anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: -(node.level - 1) or None] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            names.add(base)
            names |= {f"{base}.{alias.name}" for alias in node.names if base == NAME}
    return {name for name in names if name.split(".")[0] == NAME}


def allowed(importer: str, target: str) -> bool:
    if target == "" or target == "__version__":
        return True
    if importer == "model":
        return target in MODEL_MAY_IMPORT
    if target == "model":
        return importer in MAY_IMPORT_MODEL
    return RANKS[target] <= RANKS.get(importer, -1)


def short(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


@pytest.mark.parametrize("path", MODULES, ids=short)
def test_imports_run_downward(path):
    name = module_name(path)
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    wrong = sorted(target for target in imported(path, package) if not allowed(room(name), room(target)))
    assert not wrong, f"{name} may not import {', '.join(wrong)}"


@pytest.mark.parametrize("path", MODULES, ids=short)
def test_files_stay_small(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST


@pytest.mark.parametrize(
    ("importer", "line", "right"),
    [
        ("plans.x", "from delightsam_pipeline.data.image import Grid", True),
        ("plans.x", "from delightsam_pipeline.model.layers import Layer", False),
        ("data.x", "import delightsam_pipeline.plans.plan", False),
        ("data.x", "from delightsam_pipeline import plans", False),
        ("data.x", "from ..plans import plan", False),
        ("data.x", "from .image import Grid", True),
        ("data.x", "def f():\n    from delightsam_pipeline.training import loop", False),
        ("model.x", "from delightsam_pipeline.data.image import Grid", False),
        ("model.x", "from delightsam_pipeline.errors import UserError", True),
        ("inference.x", "from delightsam_pipeline.model.layers import Layer", True),
        ("errors", "from delightsam_pipeline.data.image import Grid", False),
        ("commands.x", "from delightsam_pipeline import __version__", True),
    ],
)
def test_the_rule_itself(tmp_path, importer, line, right):
    file = tmp_path / "x.py"
    file.write_text(line)
    name = f"{NAME}.{importer}"
    targets = imported(file, name.rpartition(".")[0])
    assert targets
    assert all(allowed(room(name), room(target)) for target in targets) == right


def loaded_by(modules: list[str]) -> set[str]:
    """Top-level packages in a fresh interpreter after importing the modules."""
    code = "import sys, importlib; [importlib.import_module(m) for m in sys.argv[1:]]; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code, *modules], capture_output=True, text=True, check=True)
    return {name.split(".")[0] for name in done.stdout.split()}


def modules_of(*rooms: str) -> list[str]:
    return [name for name in map(module_name, MODULES) if room(name) in rooms]


def test_what_comes_before_the_network_does_not_import_torch():
    plain = ("errors", "files", "locks", "paths")
    modules = modules_of("data", "plans", "preprocessing", "evaluation", "commands", *plain)
    assert f"{NAME}.data.formats" in modules
    assert "torch" not in loaded_by(modules)


def test_training_needs_no_library_that_reads_images():
    modules = [*modules_of("training", "model"), f"{NAME}.preprocessing.store"]
    assert not {"SimpleITK", "nibabel"} & loaded_by(modules)
