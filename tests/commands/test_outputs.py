"""What masks are called: the case's name, with the ending that masks of such an image have."""

from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK
from PIL import Image

SPACING = (0.7, 0.9, 2.5)


def save_pictures(folder: Path, *names: str) -> Path:
    folder.mkdir()
    for name in names:
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (50, 64)).astype(np.uint8)).save(folder / name)
    return folder


def save_series(folder: Path) -> Path:
    """A DICOM series of three slices of 40 x 48."""
    folder.mkdir(parents=True)
    volume = np.random.default_rng(0).integers(0, 900, (3, 48, 40)).astype(np.int16)
    image, writer = SimpleITK.GetImageFromArray(volume), SimpleITK.ImageFileWriter()
    image.SetSpacing(SPACING)
    writer.KeepOriginalImageUIDOn()
    for z in range(3):
        one = image[:, :, z]
        position = "\\".join(f"{v:g}" for v in image.TransformIndexToPhysicalPoint((0, 0, z)))
        tags = {"0008|0060": "MR", "0020|000e": "1.2.3", "0020|0013": str(z), "0008|0018": f"1.2.3.{z + 1}"}
        for tag, value in (tags | {"0020|0032": position, "0020|0037": "1\\0\\0\\0\\1\\0"}).items():
            one.SetMetaData(tag, value)
        writer.SetFileName(str(folder / f"slice{z}.dcm"))
        writer.Execute(one)
    return folder


@pytest.fixture(scope="module")
def volumes(tmp_path_factory, make_plan_for_tests):
    """An untrained model of volumes."""
    from delightsam_pipeline.inference.model_folder import describe_model, head_spec, save_weights
    from delightsam_pipeline.model.delightsam import DeLightSAM

    folder, plan = tmp_path_factory.mktemp("volumes"), make_plan_for_tests()
    model = DeLightSAM({plan.dataset: head_spec(plan)})
    describe_model(folder, model, {plan.dataset: plan}, {})
    save_weights(folder / "model.safetensors", model.state_dict())
    return folder


def names(folder: str) -> list[str]:
    return sorted(file.name for file in Path(folder).iterdir())


def test_pictures_of_every_format(home, empty, call):
    save_pictures(empty / "new", "a_0000.jpg", "b.JPEG", "c.bmp", "d.gif", "e.png", "f.tif")
    answer = call("predict", "-i", "new", "-o", "out")
    assert answer.code == 0, answer
    assert names("out") == ["a.png", "b.png", "c.bmp", "d.png", "e.png", "f.tif", "run.json"]
    assert all(Image.open(Path("out") / name).size == (64, 50) for name in names("out")[:-1])


def test_one_photograph_in_one_mask_out(home, empty, call, fails):
    save_pictures(empty / "new", "a.jpg")
    line = fails("predict", "-i", "new/a.jpg", "-o", "mask.jpg")
    assert "mask.jpg: has the wrong ending for a mask of this image; expected .png" in line
    assert call("predict", "-i", "new/a.jpg", "-o", "mask.png").code == 0
    assert Image.open("mask.png").size == (64, 50)
    assert sorted(file.name for file in empty.iterdir()) == ["mask.png", "new"]


def test_another_picture_beside_the_image_is_not_overwritten(home, empty, fails):
    folder = save_pictures(empty / "new", "a.jpg", "a.png")
    before = (folder / "a.png").read_bytes()
    line = fails("predict", "-i", "new/a.jpg", "-o", "new")
    assert "new/a.png: lies beside the images and would be overwritten; choose another -o" in line
    assert (folder / "a.png").read_bytes() == before


@pytest.mark.parametrize("pair", [("a.png", "a.jpg"), ("a_0000.png", "a.bmp"), ("a.jpeg", "a.jpg")])
def test_two_images_of_one_name(pair, home, empty, fails):
    save_pictures(empty / "new", *pair)
    line = fails("predict", "-i", "new", "-o", "out")
    first, second = sorted(pair)
    assert f"new/{second}: has the same case name as {first}; rename one of them" in line
    assert not Path("out").exists()


def test_a_dicom_series_is_one_volume(volumes, empty, call, fails):
    save_series(empty / "studies" / "thigh")
    for images, output in (("studies/thigh", "mask.nii.gz"), ("studies/thigh", "one"), ("studies", "all")):
        answer = call("predict", "-i", images, "-o", output, "-m", volumes)
        assert answer.code == 0, answer
    assert names("one") == names("all") == ["run.json", "thigh.nii.gz"]
    masks = [nibabel.load(file) for file in ("mask.nii.gz", "one/thigh.nii.gz", "all/thigh.nii.gz")]
    assert all(mask.shape == (40, 48, 3) for mask in masks)
    np.testing.assert_allclose(masks[0].header.get_zooms(), SPACING)
    line = fails("predict", "-i", "studies/thigh", "-o", "mask.png", "-m", volumes)
    assert "mask.png: has the wrong ending for a mask of this image; expected .nii.gz" in line
    line = fails("predict", "-i", "studies", "-o", "x.nii.gz", "-m", volumes)
    assert "x.nii.gz: is a file's name, but the input is a folder; give a folder with -o" in line
    assert "is the folder of the images" in fails("predict", "-i", "studies/thigh", "-o", "studies/thigh")


def test_a_series_and_a_file_of_one_name(volumes, empty, fails):
    save_series(empty / "studies" / "thigh")
    nibabel.save(nibabel.Nifti1Image(np.zeros((9, 9, 9), np.uint8), np.eye(4)), "studies/thigh.nii.gz")
    line = fails("predict", "-i", "studies", "-o", "out", "-m", volumes)
    assert "thigh.nii.gz: has the same case name as thigh; rename one of them" in line
    assert not Path("out").exists()
