"""The wheel holds the one package and its commands, and nothing else of the repository."""

import configparser
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
COMMANDS = ("plan_and_preprocess", "train", "predict", "evaluate", "demo", "import_release", "info", "convert")

pytestmark = pytest.mark.skipif(
    not (ROOT / "delightsam_pipeline" / "__init__.py").exists(), reason="needs the source tree"
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A wheel built from a copy of the source, without network."""
    folder = tmp_path_factory.mktemp("source")
    unwanted = shutil.ignore_patterns(".*", "build", "dist", "demo", "dlsam", "*.egg-info", "__pycache__")
    shutil.copytree(ROOT, folder / "copy", symlinks=True, ignore=unwanted)
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder / "dist", folder / "copy"]
    done = subprocess.run(build, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = (folder / "dist").glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        yield archive


def test_the_wheel_holds_the_package_and_nothing_else(wheel):
    top = {name.split("/")[0] for name in wheel.namelist()}
    (information,) = (name for name in top if name.endswith(".dist-info"))
    assert information.startswith("delightsam_pipeline-")
    assert top == {"delightsam_pipeline", information}


def test_every_module_is_in_the_wheel(wheel):
    source = {str(f.relative_to(ROOT)) for f in (ROOT / "delightsam_pipeline").rglob("*.py")}
    assert source == {name for name in wheel.namelist() if name.endswith(".py")}


def test_the_commands_are_declared_and_their_modules_are_there(wheel):
    (file,) = (name for name in wheel.namelist() if name.endswith("entry_points.txt"))
    points = configparser.ConfigParser()
    points.read_string(wheel.read(file).decode())
    expected = {f"dlsam_{name}": f"delightsam_pipeline.commands.{name}:main" for name in COMMANDS}
    assert dict(points["console_scripts"]) == expected
    for name in COMMANDS:
        assert f"delightsam_pipeline/commands/{name}.py" in wheel.namelist()


def test_licence_and_python_version_are_declared(wheel):
    (file,) = (name for name in wheel.namelist() if name.endswith("METADATA"))
    metadata = wheel.read(file).decode()
    assert "Requires-Python: >=3.11" in metadata
    assert "Apache-2.0" in metadata
    assert any(name.endswith("LICENSE") for name in wheel.namelist())
    direct = [line for line in metadata.splitlines() if line.startswith("Requires-Dist:") and "extra ==" not in line]
    assert 0 < len(direct) <= 14
