"""Recognising sources: which layout, which cases, and every problem at once."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import PIL.Image
import pytest

from delightsam_pipeline.data.convert import convert, plan_conversion
from delightsam_pipeline.data.dataset import load_dataset
from delightsam_pipeline.data.formats import read_case
from delightsam_pipeline.data.sources.recognise import recognise
from delightsam_pipeline.errors import UserError

BLOCK = np.zeros((20, 24), np.uint8)
BLOCK[5:12, 4:15] = 1


def pictures(folder: Path, *names: str) -> None:
    """Pictures that are their own masks."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.fromarray(BLOCK).save(folder / name)


def volume(path: Path, channels: int = 1, values: int = 2) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (6, 5, 4, channels) if channels > 1 else (6, 5, 4)
    data = np.random.default_rng(0).integers(0, values, shape).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(data, np.diag([0.5, 0.6, 2, 1])), path)
    return path


def table(folder: Path, *lines: str, encoding: str = "utf-8") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cases.csv").write_text("\n".join(lines) + "\n", encoding=encoding)
    return folder / "cases.csv"


def names(cases) -> list[str]:
    return [case.name for case in cases]


def problem(*arguments, **wishes) -> str:
    """What is wrong, as the user reads it."""
    with pytest.raises(UserError) as caught:
        plan_conversion(recognise(*arguments), **wishes)
    return str(caught.value)


def decathlon(folder: Path, files: str = "a", **entries) -> Path:
    """A training and a test case of two channels; `files` is the name on disk, a the listed one."""
    value = {
        "modality": {"0": "FLAIR", "1": "T1w"},
        "labels": {"0": "Background", "1": "oedema", "2": "tumour"},
        "training": [{"image": "./imagesTr/a.nii.gz", "label": "./labelsTr/a.nii.gz"}],
        "test": ["./imagesTs/b.nii.gz"],
        **entries,
    }
    volume(folder / "labelsTr" / "a.nii.gz", values=3)
    volume(folder / "imagesTr" / f"{files}.nii.gz", 2, 900)
    volume(folder / "imagesTs" / "b.nii.gz", 2, 900)
    (folder / "dataset.json").write_text(json.dumps(value), encoding="utf-8")
    return folder


def test_the_decathlon_with_its_channels_in_one_file(tmp_path):
    source = decathlon(tmp_path / "Task01")
    found = recognise([source])
    assert found.layout == "the Medical Decathlon's layout"
    conversion = plan_conversion(found)
    assert conversion.entries == {
        "channel_names": {"0": "FLAIR", "1": "T1w"},
        "labels": {"background": 0, "oedema": 1, "tumour": 2},
        "numTraining": 1,
        "file_ending": ".nii.gz",
    }
    convert(conversion, tmp_path / "Dataset301_A")
    for part, name in (("imagesTr", "a"), ("imagesTs", "b")):
        copy = tmp_path / "Dataset301_A" / part / f"{name}_0000.nii.gz"
        assert copy.read_bytes() == (source / part / f"{name}.nii.gz").read_bytes()
    assert read_case(load_dataset(tmp_path / "Dataset301_A").cases[0].images).array.shape == (2, 4, 5, 6)


def test_labels_with_gaps_keep_their_masks(tmp_path):
    source = decathlon(tmp_path / "Task01", labels={"0": "background", "4": "liver", "7": "spleen"})
    value = plan_conversion(recognise([source])).entries
    assert value["labels"] == {"background": 0, "liver": 1, "spleen": 2}
    assert value["mask_values"] == {"0": 0, "4": 1, "7": 2}


def test_nnunet_v1_with_a_file_for_each_channel(tmp_path):
    source = decathlon(tmp_path / "Task501", files="a_0000", test=[])
    for channel in range(2):
        volume(source / "imagesTr" / f"a_000{channel}.nii.gz")
    found = recognise([source])
    assert found.layout == "an nnU-Net v1 dataset" and not found.test
    convert(plan_conversion(found), tmp_path / "Dataset301_A")
    files = sorted(file.name for file in (tmp_path / "Dataset301_A" / "imagesTr").iterdir())
    assert files == ["a_0000.nii.gz", "a_0001.nii.gz"]


@pytest.mark.parametrize(
    ("entries", "text"),
    [
        ({"training": [{"image": "./imagesTr/a.nii.gz"}]}, "dataset.json: lists a wrong entry; expected {"),
        ({"test": ["./imagesTs/x.nii.gz"]}, r"imagesTs/x\.nii\.gz: does not exist, but .*dataset\.json lists it"),
        ({"modality": {"1": "CT"}}, "'modality' is wrong"),
        ({"labels": {"0": "background", "1": "a", "2": "a"}}, "'labels' has two classes of one name"),
        ({"modality": {"0": "CT"}}, r"not that of their names; expected 1 \(CT\); found 2; name every"),
    ],
)
def test_what_a_list_of_cases_gets_wrong(tmp_path, entries, text):
    with pytest.raises(UserError, match=text):
        plan_conversion(recognise([decathlon(tmp_path / "Task01", **entries)]))


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_csv_with_all_columns(tmp_path, delimiter, encoding):
    pictures(tmp_path / "mine", "x/1.png", "x/2.png", "x/3.png", "y/1.png", "y/3.png")
    lines = ["Image,mask,case,group,split,modality", "x/1.png,y/1.png,left eye,p1,train,fundus", "", "x/2.png,,,,,"]
    lines.append("x/3.png,y/3.png,,,test,fundus")
    file = table(tmp_path / "mine", *(line.replace(",", delimiter) for line in lines), encoding=encoding)
    found = recognise([file])
    assert names(found.train) == ["left_eye"] and found.train[0].group == "p1" and names(found.test) == ["2", "3"]
    assert found.test[1].label == tmp_path / "mine" / "y" / "3.png"
    conversion = plan_conversion(found)
    assert conversion.entries["modality"] == "fundus" and conversion.entries["group"] == {"left_eye": "p1"}
    convert(conversion, tmp_path / "Dataset301_A")
    assert (tmp_path / "Dataset301_A" / "labelsTs" / "3.png").is_file()


def test_channels_of_a_csv_and_dicom_in_it(tmp_path, write_series):
    write_series(tmp_path / "pet", np.zeros((4, 5, 6), np.int16), elements={"00080060": "PT"})
    volume(tmp_path / "ct.nii.gz"), volume(tmp_path / "m.nii.gz")
    found = recognise([table(tmp_path, "image_0,image_1,mask,case", "ct.nii.gz,pet,m.nii.gz,a")])
    assert found.train[0].images == (tmp_path / "ct.nii.gz", tmp_path / "pet")
    assert "does not lie on the same grid" in problem([tmp_path / "cases.csv"])


def test_every_wrong_row_is_named_with_its_line(tmp_path):
    pictures(tmp_path, "a.png", "b.png")
    (tmp_path / "a.txt").write_text("no image")
    text = problem(
        [
            table(
                tmp_path,
                "image,mask,split,modality",
                "a.png,no.png,,CT",
                "a.txt,b.png,,MRI",
                ",b.png,,",
                "a.png,b.png,val,",
                "a.png,,train,",
                "a.png,b.png,,,surplus",
                "a.png,b.png,,",
                "A.png,b.png,,",
                "b.png,a.png,,",
                "b.png,,,",
            )
        ]
    )
    file = tmp_path / "cases.csv"
    assert text.startswith(f"9 problems in {file}:")
    for line, words in (
        (2, "its mask does not exist; found"),
        (3, "its image is in no format"),
        (4, "has no image"),
        (5, "has an unknown split; expected train or test; found val"),
        (6, "has no mask"),
        (7, "has more fields than there are columns"),
        (9, "its image does not exist"),
        (11, f"its case would be called b as that of {file}:10 is"),
    ):
        assert f"{file}:{line}: {words}" in text
    assert f"{file}: names several modalities; found CT, MRI" in text
    assert f"{file}:8:" not in text and f"{file}:10: " not in text


@pytest.mark.parametrize(
    ("header", "text"),
    [
        ("picture,mask", "has no column of images.*found picture, mask"),
        ("image_0,image_2,mask", "channels missing"),
        ("image,msak", "unknown column 'msak'; did you mean mask"),
        ("image,image", "two columns of one name"),
    ],
)
def test_wrong_columns(tmp_path, header, text):
    pictures(tmp_path, "a.png")
    with pytest.raises(UserError, match=text):
        recognise([table(tmp_path, header, ",".join(["a.png"] * (header.count(",") + 1)))])


def test_columns_passed_over_are_told(tmp_path, caplog):
    pictures(tmp_path, "a.png")
    recognise([table(tmp_path, "image,mask,age", "a.png,a.png,60")])
    assert "columns passed over: age" in caplog.text


def test_a_pair_with_nnunets_tests_and_numbers(tmp_path):
    pictures(tmp_path / "mine", "imagesTr/a_0000.png", "imagesTr/a_0001.png", "labelsTr/a.png")
    pictures(tmp_path / "mine", "imagesTs/b_0000.png", "imagesTs/b_0001.png", "labelsTs/b.png")
    found = recognise([tmp_path / "mine"])
    assert names(found.train) == ["a"] and names(found.test) == ["b"]
    assert [file.name for file in found.train[0].images] == ["a_0000.png", "a_0001.png"]
    assert plan_conversion(found).entries["channel_names"] == {"0": "channel 0", "1": "channel 1"}


def test_images_without_masks_are_for_testing_and_masks_without_images_wrong(tmp_path):
    pictures(tmp_path / "mine", "images/a.png", "images/b.png", "masks/a.png")
    found = recognise([tmp_path / "mine"])
    assert names(found.train) == ["a"] and names(found.test) == ["b"]
    pictures(tmp_path / "mine", "masks/c.png", "masks/d.png")
    assert "2 problems in" in problem([tmp_path / "mine"])
    assert "masks/d.png: has no image" in problem([tmp_path / "mine"])


def test_masks_with_something_added_to_the_images_names(tmp_path):
    pictures(tmp_path / "i", "ISIC_1.png", "ISIC_11.png", "ISIC_2.png")
    pictures(tmp_path / "m", "ISIC_1_segmentation.png", "ISIC_11_segmentation.png")
    found = recognise([tmp_path / "i"], tmp_path / "m")
    assert [case.label.name for case in found.train] == ["ISIC_1_segmentation.png", "ISIC_11_segmentation.png"]
    pictures(tmp_path / "m", "ISIC_2_lesion.png")
    assert "3 problems" in problem([tmp_path / "i"], tmp_path / "m")


def test_cases_with_other_numbers_of_files(tmp_path):
    source = decathlon(tmp_path / "Task01", files="a_0000")
    volume(source / "imagesTr" / "a_0001.nii.gz")
    assert "its cases have different numbers of image files" in problem([source])


def test_two_sources_of_one_name(tmp_path):
    pictures(tmp_path / "mine", "images/a b.png", "images/a_b.png", "masks/a b.png", "masks/a_b.png")
    text = problem([tmp_path / "mine"])
    assert "a_b.png: would be called a_b as" in text and "a b.png is; rename one" in text


def test_what_is_no_source(tmp_path):
    pictures(tmp_path / "images", "a.png")
    assert "has images but no masks; give a folder of masks with --masks" in problem([tmp_path / "images"])
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "read.me").touch()
    assert "has no layout that is known; expected images and labels" in problem([tmp_path / "notes"])
    assert "does not exist" in problem([tmp_path / "nowhere"])
    assert "only folders of DICOM series" in problem([tmp_path / "images", tmp_path / "notes"])
    pictures(tmp_path / "mine", "images/a.png", "masks/a.png")
    assert "says itself where its masks are; leave out --masks" in problem([tmp_path / "mine"], tmp_path)
    convert(plan_conversion(recognise([tmp_path / "mine"])), tmp_path / "Dataset301_A")
    assert "is a raw dataset already" in problem([tmp_path / "Dataset301_A"])
    (tmp_path / "mine" / "masks" / "a.png").unlink()
    assert "no image has a mask to train on; found 1 images" in problem([tmp_path / "mine"])


def test_dicom_of_several_modalities_and_masks_of_no_case(tmp_path, write_series):
    for name in ("CT", "PT"):
        write_series(tmp_path / "p" / name, np.zeros((4, 5, 6), np.int16), elements={"00080060": name})
    volume(tmp_path / "m" / "CT.nii.gz"), volume(tmp_path / "m" / "x.nii.gz")
    text = problem([tmp_path / "p"], tmp_path / "m")
    assert "x.nii.gz: is called as no case is; expected one of CT, PT" in text
    assert "holds series of several modalities; found 1 CT, 1 PT; convert each" in text


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ({"cup": "7"}, {"labels": {"background": 0, "cup": 1}, "mask_values": {"0": 0, "7": 1}}),
        ({"background": "1", "cup": "0"}, {"labels": {"background": 0, "cup": 1}, "mask_values": {"1": 0, "0": 1}}),
        ({"cup": "1", "disc": "2"}, {"labels": {"background": 0, "cup": 1, "disc": 2}}),
        (
            {"ignore": "#FFFFFF", "cup": "#ff0000"},
            {
                "labels": {"background": 0, "cup": 1, "ignore": 2},
                "mask_values": {"#000000": 0, "#ff0000": 1, "#ffffff": 2},
            },
        ),
    ],
)
def test_labels_with_values(tmp_path, labels, expected):
    pictures(tmp_path / "mine", "images/a.png", "masks/a.png")
    value = plan_conversion(recognise([tmp_path / "mine"]), labels=labels).entries
    assert {key: value[key] for key in ("labels", "mask_values") if key in value} == expected


def test_wrong_labels_and_channels(tmp_path):
    pictures(tmp_path / "mine", "images/a.png", "masks/a.png")
    sources = [tmp_path / "mine"]
    assert "only some labels have a value" in problem(sources, labels={"cup": "1", "disc": None})
    assert "expected 1 names (foreground); found 2" in problem(sources, labels={"cup": None, "disc": None})
    assert "two classes have the same value" in problem(sources, labels={"cup": "1", "disc": "1"})
    assert "expected 3 (R, G, B); found 1" in problem(sources, names_of_channels=["R", "G", "B"])
