"""What planning and preprocessing cost: CPU seconds, time, processes and memory, beside nnU-Net when it is installed.

    python benchmarks/planning.py DATASET_FOLDER --nnunet NNUNET_ENVIRONMENT/bin
    python benchmarks/planning.py --generate --nnunet NNUNET_ENVIRONMENT/bin
    python benchmarks/planning.py DATASET_FOLDER --nnunet NNUNET_ENVIRONMENT/bin --compare

Runs whole commands on a raw dataset, or on eight generated PNGs of 128 x 128: ours into an empty folder and without the
report, again with nothing to do, once more for the report alone; then nnU-Net's for its 2D configuration. CPU seconds
are those of all processes of a command. On Linux the number of processes and their memory (the sum of their shares,
PSS) are looked at five times a second. `--compare` prints how far the two fingerprints of the dataset differ.
Everything is printed, and written as JSON to benchmarks/results/.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shlex
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from common import RESULTS, commit, hardware
from PIL import Image

from delightsam_pipeline.data.checks import check_case
from delightsam_pipeline.data.dataset import load_dataset
from delightsam_pipeline.files import read_json, write_json

LOOK_S = 0.2
OURS = [sys.executable, "-m", "delightsam_pipeline.commands.plan_and_preprocess"]
SUMMARY = ("mean", "median", "std", "min", "max", "percentile_00_5", "percentile_99_5")


def generate(folder: Path) -> Path:
    """Eight grey pictures of 128 x 128 with a bright disc each, as a raw dataset."""
    raw, random = folder / "Dataset999_Discs", np.random.default_rng(0)
    rows, columns = np.mgrid[:128, :128]
    for number in range(8):
        centre, radius = random.integers(40, 88, 2), random.integers(12, 30)
        disc = np.hypot(rows - centre[0], columns - centre[1]) < radius
        picture = np.clip(60 + 90 * disc + random.normal(0, 15, disc.shape), 0, 255)
        for part, name, array in (("imagesTr", f"c{number}_0000", picture), ("labelsTr", f"c{number}", disc)):
            (raw / part).mkdir(parents=True, exist_ok=True)
            Image.fromarray(array.astype(np.uint8)).save(raw / part / f"{name}.png")
    labels = {"background": 0, "disc": 1}
    entries = {"channel_names": {"0": "grey"}, "labels": labels, "numTraining": 8, "file_ending": ".png"}
    write_json(raw / "dataset.json", entries | {"modality": "ultrasound"})
    return raw


def measure(command: list[str], environment: dict[str, str], log: Path) -> dict:
    """Run a command to its end: CPU seconds and wall, and on Linux the most processes and memory at once.

    Raises RuntimeError with the last lines of its output when it fails.
    """
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    peaks = {"processes": 0, "memory_gb": 0.0}
    with open(log, "w", encoding="utf-8") as output:
        process = subprocess.Popen(command, env=os.environ | environment, stdout=output, stderr=subprocess.STDOUT)
        done = threading.Event()
        watcher = threading.Thread(target=watch, args=(process.pid, done, peaks))
        watcher.start()
        code = process.wait()
        wall = time.monotonic() - began
        done.set()
        watcher.join()
    collect_orphans()
    if code:
        last = log.read_text(encoding="utf-8", errors="replace")[-2000:]
        raise RuntimeError(f"exit code {code} of {shlex.join(command)}:\n{last}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = sum(getattr(after, name) - getattr(before, name) for name in ("ru_utime", "ru_stime"))
    return {"cpu_s": round(cpu, 2), "wall_s": round(wall, 2)} | (peaks if peaks["processes"] else {})


def adopt_orphans() -> None:
    """Have processes that outlive their parent become this one's, so that their CPU seconds are counted (Linux)."""
    if sys.platform == "linux":
        import ctypes

        become_subreaper = 36
        ctypes.CDLL(None).prctl(become_subreaper, 1, 0, 0, 0)


def collect_orphans() -> None:
    """Wait for what a command has left behind, five seconds at most."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                time.sleep(0.05)
        except ChildProcessError:
            return


def watch(root: int, done: threading.Event, peaks: dict) -> None:
    """Keep the most processes and the most memory of the tree below a process."""
    while not done.wait(LOOK_S):
        tree = descendants(root)
        peaks["processes"] = max(peaks["processes"], len(tree))
        peaks["memory_gb"] = max(peaks["memory_gb"], round(sum(map(share_of_memory, tree)) / 1e6, 3))


def descendants(root: int) -> list[int]:
    """A process and all below it, by /proc; empty where there is none."""
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        fields = text(folder / "stat").rpartition(")")[2].split()
        if fields and fields[0] != "Z":
            parents[int(folder.name)] = int(fields[1])
    tree = [root] if root in parents else []
    for pid in tree:  # grows on the way
        tree += [child for child, parent in parents.items() if parent == pid]
    return tree


def share_of_memory(pid: int) -> int:
    """Kilobytes of a process, shared ones divided among those that share them."""
    lines = text(Path(f"/proc/{pid}/smaps_rollup")).splitlines()
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)


def text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:  # the process has just ended
        return ""


def ours(raw: Path, work: Path) -> dict:
    command = [*OURS, "-d", str(raw), "-o", str(work / "ours")]
    runs = {"cold": [*command, "--no-report"], "nothing to do": [*command, "--no-report"], "report": command}
    return {name: measure(run, {}, work / "ours.log") for name, run in runs.items()}


def nnunet(raw: Path, work: Path, programs: Path) -> dict:
    """nnU-Net's planning and preprocessing for 2D, with the processes that its own users are told to give."""
    folders = {f"nnUNet_{part}": work / "nnunet" / part for part in ("raw", "preprocessed", "results")}
    for folder in folders.values():
        folder.mkdir(parents=True)
    (folders["nnUNet_raw"] / raw.name).symlink_to(raw.resolve())
    number = raw.name[len("Dataset") :].split("_")[0]
    command = [str(programs / "nnUNetv2_plan_and_preprocess"), "-d", number, "-c", "2d", "-npfp", "2", "-np", "2"]
    return {"cold": measure(command, {name: str(path) for name, path in folders.items()}, work / "nnunet.log")}


def compare(raw: Path, work: Path) -> dict:
    """How far the two fingerprints differ: geometry case by case, and the intensities of the foreground.

    nnU-Net draws equally many voxels of every case; `cases_alike` is that without drawing: every case weighs the same.
    """
    mine = read_json(work / "ours" / raw.name / "fingerprint.json")
    other = read_json(work / "nnunet" / "preprocessed" / raw.name / "dataset_fingerprint.json")
    names = [case.name for case in load_dataset(raw).cases]  # nnU-Net keeps this order and leaves the names out
    cases = {case["name"]: case for case in mine["cases"]}
    found: dict = {"cases": len(names), "intensities": []}
    for key, theirs in (("spacing", other["spacings"]), ("nonzero_box", other["shapes_after_crop"])):
        pairs = zip(names, theirs, strict=True)
        apart = [float(np.max(np.abs(np.subtract(cases[name][key], value)))) for name, value in pairs]
        found[key] = {"cases_that_differ": int(np.sum(np.greater(apart, 1e-4))), "largest": max(apart)}
    alike = cases_alike(raw)
    for channel, values in enumerate(mine["intensities"]):
        theirs = other["foreground_intensity_properties_per_channel"][str(channel)]
        rows = {"ours": values, "cases_alike": alike[channel], "nnunet": theirs}
        found["intensities"].append({key: {name: row[key] for name, row in rows.items()} for key in SUMMARY})
    return found


def cases_alike(raw: Path) -> list[dict[str, float]]:
    """Per channel, the summary of the foreground's intensities when every case weighs the same, however large."""
    dataset, drawn = load_dataset(raw), []
    for case in dataset.cases:
        image, label = check_case(case, dataset)
        drawn.append(image.array[:, label.array[0] > 0])
    drawn = [values for values in drawn if values.size]
    weights = np.concatenate([np.full(values.shape[1], 1 / values.shape[1] / len(drawn)) for values in drawn])
    found = []
    for values in np.concatenate(drawn, axis=1).astype(float):
        order = np.argsort(values)
        places = np.searchsorted(np.cumsum(weights[order]), (0.005, 0.5, 0.995))
        low, median, high = (float(v) for v in values[order][places])
        mean = float(values @ weights)
        row = {"mean": mean, "median": median, "std": float(((values - mean) ** 2 @ weights) ** 0.5)}
        row |= {"min": float(values.min()), "max": float(values.max())}
        found.append(row | {"percentile_00_5": low, "percentile_99_5": high})
    return found


def print_comparison(found: dict) -> None:
    for key in ("spacing", "nonzero_box"):
        print(f"{key}: differs in {found[key]['cases_that_differ']} of {found['cases']} cases", found[key]["largest"])
    for channel, rows in enumerate(found["intensities"]):
        width = rows["percentile_99_5"]["nnunet"] - rows["percentile_00_5"]["nnunet"]
        print(f"channel {channel}: ours, each case alike, nnU-Net; differences of nnU-Net from both, of {width:.6g}")
        for key, row in rows.items():
            mine, alike, other = row.values()
            apart = f"{(other - mine) / width:+9.3%} {(other - alike) / width:+9.3%}"
            print(f"  {key:16s} {mine:12.6g} {alike:12.6g} {other:12.6g}  {apart}")


def versions(programs: Path | None) -> dict:
    """Of Python and, in its own environment, of nnU-Net."""
    found = {"python": sys.version.split()[0]}
    if programs is not None:
        code = "from importlib.metadata import version; print(version('nnunetv2'))"
        asked = [str(programs / "python"), "-c", code]
        found["nnunetv2"] = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    return found


def parse() -> argparse.Namespace:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("raw", type=Path, nargs="?", help="folder of a raw dataset")
    p.add_argument("--generate", action="store_true", help="eight generated PNGs instead")
    p.add_argument("--nnunet", type=Path, metavar="PYTHON_BIN_DIR", help="bin folder of an environment with nnunetv2")
    p.add_argument("--compare", action="store_true", help="compare the fingerprints too; needs --nnunet")
    args = p.parse_args()
    if (args.raw is None) != args.generate or (args.compare and args.nnunet is None):
        p.error("give a dataset's folder or --generate; --compare needs --nnunet")
    return args


def command_of(args: argparse.Namespace) -> str:
    """The command that was given, without the folders of this machine."""
    what = "--generate" if args.generate else args.raw.name
    return " ".join(["planning.py", what, *["--nnunet BIN"] * bool(args.nnunet), *["--compare"] * args.compare])


def main() -> None:
    args = parse()
    adopt_orphans()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        raw = generate(work / "raw") if args.generate else args.raw
        runs = {"ours": ours(raw, work)}
        if args.nnunet is not None:
            runs["nnU-Net"] = nnunet(raw, work, args.nnunet)
        record = {"dataset": raw.name, "commit": commit(), "hardware": hardware(), "versions": versions(args.nnunet)}
        record |= {"command": command_of(args), "runs": runs}
        print(json.dumps(runs, indent=1))
        if args.compare:
            record["comparison"] = compare(raw, work)
            print_comparison(record["comparison"])
    file = RESULTS / f"planning-{raw.name}-cpu{os.cpu_count()}.json"
    write_json(file, record)
    print(f"written to {file}")


if __name__ == "__main__":
    main()
