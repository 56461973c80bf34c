"""dlsam_evaluate: what it writes and prints, comparison, the paper's protocol, and cross-validation."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from delightsam_pipeline.evaluation.metrics import case_metrics
from delightsam_pipeline.evaluation.summary import TRAINED_ON, CaseResult, summarise
from delightsam_pipeline.files import read_json, write_json


@pytest.fixture
def squares(empty, make_pictures):
    """squares(cases, **entries): references and two methods; `good` misses a row, `poor` eight."""

    def _squares(cases=3, **entries):
        raw = make_pictures(empty / "dlsam" / "raw" / "Dataset007_Squares", cases=cases, **entries)
        for method, rows in (("good", 1), ("poor", 8)):
            folder = Path(shutil.copytree(raw / "labelsTr", empty / method))
            for file in folder.iterdir():
                mask = np.array(Image.open(file))
                mask[48 - rows :] = 0
                Image.fromarray(mask).save(file)
        return raw / "labelsTr"

    return _squares


def test_scores_are_written_and_printed(squares, call):
    reference = squares(group={"case0": "p", "case1": "p"})
    answer = call("evaluate", reference, "good", "--worst", "0", "--tolerance", "0.5")
    assert answer.code == 0, answer
    assert "HD95 px  NSD 0.5 px" in answer.out and "single values: under 10 groups of cases" in answer.out
    summary = read_json(Path("good/summary.json"))
    assert (summary["tolerance"], summary["n_groups"]) == (0.5, 2)
    with open("good/scores.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(row["name"], row["group"], row["class"]) for row in rows] == [
        *(("case0", "p", "square"), ("case1", "p", "square"), ("case2", "case2", "square"))
    ]
    assert float(rows[0]["Dice"]) == pytest.approx(2 * 31 / 63)


def test_references_as_people_have_them_are_scored_and_drawn(squares, call):
    reference = squares()
    for file in reference.iterdir():
        Image.fromarray(np.array(Image.open(file)) * np.uint8(255)).save(file)
    answer = call("evaluate", reference, "good", "--images", reference.parent / "imagesTr")
    assert answer.code == 0 and "pictures of the worst cases in good/worst_cases.png" in answer.out, answer
    assert "no picture" not in answer.out + answer.err
    assert read_json(Path("good/summary.json"))["foreground_mean"]["Dice"] > 0.98


def test_images_that_are_not_there_are_told_before_anything_is_scored(squares, fails):
    assert "nowhere: is not a folder of images" in fails("evaluate", squares(), "good", "--images", "nowhere")
    assert not Path("good/summary.json").exists()


def test_a_prediction_of_another_size_is_refused_though_its_shape_is_the_same(squares, call):
    reference = squares()
    for file in Path("good").iterdir():
        with Image.open(file) as picture:
            picture.resize((picture.width // 2, picture.height // 2), Image.Resampling.NEAREST).save(file)
    answer = call("evaluate", reference, "good")
    assert answer.code == 2 and answer.err.count("does not lie on the same grid") == 3, answer


def test_scores_of_one_folder_under_two_names(squares, call, fails):
    reference = squares()
    for name in ("a", "b"):
        assert call("evaluate", reference, "good", "-o", f"{name}.json").code == 0
    assert {"a.json", "a.csv", "a.png", "b.json", "b.csv", "b.png"} <= {file.name for file in Path().iterdir()}
    assert "good: is no name for a summary; expected a file that ends in .json" in fails(
        "evaluate", reference, "good", "-o", "good"
    )


def test_two_methods(squares, call):
    answer = call("evaluate", squares(cases=10), "good", "--against", "poor", "--worst", "0")
    assert answer.code == 0, answer
    assert "differences from poor" in answer.out and "Dice is higher than that of poor" in answer.out
    row = read_json(Path("good/summary.json"))["comparison"]["mean"]["1"]["Dice"]
    assert row["difference"] > 0 and row["n_better"] == 10 and row["interval"][0] > 0
    assert not Path("poor/summary.json").exists()


def test_the_protocol_of_the_paper(squares, call):
    answer = call("evaluate", squares(), "good", "--protocol", "paper")
    assert answer.code == 0, answer
    assert "for comparison with the De-LightSAM paper only" in answer.out
    assert read_json(Path("good/summary_paper.json"))["metric_per_case"][0]["metrics"]["1"]["HD"] == pytest.approx(16)
    assert not Path("good/summary.json").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "there is nothing to evaluate; give REFERENCE and PREDICTION, or -d DATASET"),
        (["one"], "the folder of predicted masks is missing"),
        (["-d", "7", "--against", "x", "--worst", "0"], "--against does not go with the folds of a dataset; leave out"),
        (["a", "b", "--protocol", "paper", "--tolerance", "1"], "--tolerance does not go with --protocol paper"),
        (["a", "b", "--no-postprocessing"], "--no-postprocessing does not go with REFERENCE; leave out"),
        (["a", "b", "--device", "cpu"], "--device does not go with REFERENCE; leave out"),
        (["-d", "9"], "no model has been trained on '9'; found none"),
    ],
)
def test_what_does_not_go_together(arguments, words, raw, fails):
    if len(arguments) > 2 and arguments[0] == "a":
        arguments = [raw / "labelsTr", *arguments[1:]]
    assert words in fails("evaluate", *arguments)


def test_a_tolerance_that_is_none(refuses):
    for text in ("-1", "nan", "two", "inf"):
        assert f"'{text}' is not a distance from 0 on" in refuses("evaluate", "a", "b", f"--tolerance={text}")


def test_groups_that_are_no_map(raw, fails):
    file = raw / "dataset.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"group": ["p"]}))
    assert "dataset.json: 'group' is not a map" in fails("evaluate", raw / "labelsTr", raw / "labelsTr")


# cross-validation


@pytest.fixture
def trained_folds(empty):
    """trained_folds(name, fold=cases, head=...): a finished fold's model.json and summary."""

    def _folds(name, fold, names, *heads, **entries):
        folder = empty / "dlsam" / "results" / name / f"fold_{fold}"
        write_json(folder / "model.json", {})
        array = np.array([[[1, 1, 0, 0]]])
        for head in heads or (name,):
            metrics = case_metrics(array, array, {"square": (1,)})
            results = [CaseResult(case, metrics, case, case) for case in names]
            summary = summarise(results, {"square": (1,)}) | entries
            write_json(folder / "validation" / head / "summary.json", summary)
        return folder.parent

    return _folds


def test_folds_are_put_together(trained_folds, call):
    for fold, names in enumerate((["a", "b"], ["c"])):
        folder = trained_folds("Dataset007_Squares", fold, names)
    trained_folds("Dataset007_Squares", "all", ["a", "b", "c"], note=TRAINED_ON)
    for dataset in ("7", "Squares", "Dataset007_Squares", folder):
        answer = call("evaluate", "-d", dataset)
        assert answer.code == 0, answer
    assert "fold_all of Dataset007_Squares is left out: it was validated on the cases it was trained on" in answer.out
    assert "mean Dice of fold 0: 1.0000 (2 cases), 1: 1.0000 (1 cases)" in answer.out
    assert "not there yet: fold 2, 3, 4" in answer.out
    merged = read_json(folder / "cross_validation" / "Dataset007_Squares" / "summary.json")
    assert [row["name"] for row in merged["metric_per_case"]] == ["a", "b", "c"]
    assert len((folder / "cross_validation" / "Dataset007_Squares" / "scores.csv").read_text().splitlines()) == 4
    assert "no post-processing is chosen: " in answer.out and "has not been preprocessed" in answer.out


def test_the_store_says_how_many_folds_there_are(trained_folds, empty, call):
    trained_folds("Dataset007_Squares", 0, ["a"])
    write_json(empty / "dlsam" / "preprocessed" / "Dataset007_Squares" / "splits_final.json", [{}, {}])
    assert "not there yet: fold 1\n" in call("evaluate", "-d", "7").out


def test_every_head_of_a_model_has_its_own_table(trained_folds, call):
    heads = ("Dataset007_Squares", "Dataset008_Circles")
    folder = trained_folds("+".join(heads), 0, ["a"], *heads)
    trained_folds("Dataset007_Squares", 0, ["b"])
    answer = call("evaluate", "-d", "8+7")
    assert answer.code == 0, answer
    for head in heads:
        assert f"{head}, cross-validation" in answer.out
        assert (folder / "cross_validation" / head / "summary.json").is_file()
    assert not (folder.parent / "Dataset007_Squares" / "cross_validation").exists()


def test_a_model_without_scores_of_cases_it_has_not_seen(trained_folds, fails):
    trained_folds("Dataset007_Squares", "all", ["a"])
    assert "no fold has been validated on cases it was not trained on" in fails("evaluate", "-d", "7")


def test_two_models_of_one_number(trained_folds, fails):
    for name in ("Dataset007_Squares", "Dataset007_Circles"):
        trained_folds(name, 0, ["a"])
    line = fails("evaluate", "-d", "7")
    assert "'7' means several models; found Dataset007_Circles, Dataset007_Squares; give the name" in line
