"""What must go from a run's folder when its training goes on."""

from __future__ import annotations

from delightsam_pipeline.training.folder import remove_scores


def test_scores_and_label_maps_of_earlier_weights_go(tmp_path):
    head = tmp_path / "validation" / "Dataset001_MR"
    (head / "labels").mkdir(parents=True)
    for name in ("labels/a.npz", "summary.json", "scores.csv", "progress.csv"):
        (head / name).write_text("old")
    remove_scores(tmp_path)
    assert [file.name for file in head.iterdir()] == ["progress.csv"]
