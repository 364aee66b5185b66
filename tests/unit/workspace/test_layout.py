"""Paths of a workspace are put together and taken apart by the same names."""

import pytest

from slimpajama.workspace import layout


def test_a_path_is_taken_apart_into_what_it_was_made_of():
    path = layout.night("n").split("train") + "x.parquet"
    place = layout.place(path)
    assert (place.root, place.owner, place.kind, place.rest) == ("nights", "n", "shards", "train/x.parquet")
    assert (place.inner, place.folder.path) == ("train", layout.night("n").path)
    assert (layout.name_of(path), layout.stem(path)) == ("x.parquet", "x")
    assert layout.folders_of(path) == ["nights", "nights/n", "nights/n/shards", layout.folder_of(path)]


@pytest.mark.parametrize(
    ("path", "published"),
    [
        (layout.night("n").manifest, True),
        (layout.report("n").samples_manifest, True),
        (layout.model("m").gate("n").manifest, True),
        (layout.Folder(layout.night("n").work("clean")).manifest, False),
        (layout.NIGHTS_INDEX, False),
        (layout.night("work").manifest, True),
        (layout.report("work").manifest, True),
        (layout.model("m").evaluation("work").manifest, True),
        (layout.Folder(layout.model("m").gate("n").work()).manifest, False),
        (layout.Folder(layout.night("work").work("clean")).manifest, False),
        (layout.noted(layout.night("n").manifest), False),
        (layout.scratch(layout.night("n")) + "/manifest.json", False),
    ],
)
def test_the_manifests_of_published_files_are_known(path, published):
    assert layout.is_published_manifest(path) is published


def test_only_the_manifest_of_a_whole_folder_is_its_owners():
    assert layout.place(layout.model("m").manifest).is_manifest
    assert not layout.place(layout.model("m").evaluation("n").manifest).is_manifest
    assert not layout.place(layout.CHAMPION).is_manifest
