import numpy as np
import pytest

from pipeline.errors import ArtefactError
from pipeline.photos.manifest import Manifest, read, write


def some_manifest(**columns) -> Manifest:
    digests = np.zeros((3, 32), np.uint8)
    digests[:, 0] = (9, 5, 9)
    settings = {
        "paths": ["a/1.jpg", "b/2.jpg", "c/3.jpg"],
        "digests": digests,
        "labels": ["x", "y", "x"],
        "splits": ["train", "train", "train"],
        "widths": np.array([3, 4, 5], np.int32),
        "heights": np.array([6, 7, 8], np.int32),
        "formats": ["JPEG", "PNG", "JPEG"],
    }
    return Manifest(**{**settings, **columns})


def test_a_manifest_is_plain_csv(tmp_path):
    write(some_manifest(), tmp_path / "m.csv")
    zeros = "00" * 31
    assert (tmp_path / "m.csv").read_bytes().decode() == (
        "path,digest,label,split,width,height,format\n"
        f"a/1.jpg,09{zeros},x,train,3,6,JPEG\n"
        f"b/2.jpg,05{zeros},y,train,4,7,PNG\n"
        f"c/3.jpg,09{zeros},x,train,5,8,JPEG\n"
    )


def test_what_is_written_is_read(tmp_path):
    odd = ['a, "b"/1.jpg', "line\nfeed\r/2.jpg", "猫 ü\t/'3.jpg"]
    manifest = some_manifest(paths=odd, labels=["x, y", '"\r', "x, y"])
    write(manifest, tmp_path / "m.csv")
    again = read(tmp_path / "m.csv")
    assert again.paths == odd
    assert again.labels == ["x, y", '"\r', "x, y"]
    assert again.splits == manifest.splits
    assert again.formats == manifest.formats
    np.testing.assert_array_equal(again.digests, manifest.digests)
    np.testing.assert_array_equal(again.widths, [3, 4, 5])
    np.testing.assert_array_equal(again.heights, [6, 7, 8])
    assert (again.digests.dtype, again.widths.dtype, again.heights.dtype) == (np.uint8, np.int32, np.int32)


def test_classes_are_sorted_and_distinct():
    assert some_manifest(labels=["y", "x", "y"]).classes == ["x", "y"]


def test_distinct_has_one_row_a_digest_in_digest_order():
    manifest = some_manifest(paths=["z.jpg", "b.jpg", "a.jpg"])
    assert manifest.distinct("train").paths == ["b.jpg", "a.jpg"]
    assert list(manifest.distinct("train").widths) == [4, 5]
    assert len(manifest.distinct("test")) == 0
    assert manifest.distinct("test").digests.shape == (0, 32)


DIGEST = "ab" * 32


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: expected path,digest,label"),
        ("path,label\n", "line 1: expected path,digest,label,split,width,height,format, received 'path,label'"),
        ("HEADa,b\n", "line 2: expected 7 fields, received 2"),
        (f"HEAD,{DIGEST},x,train,1,1,PNG\n", "line 2: expected a path and a label, received '' and 'x'"),
        ("HEADa,ABCD,x,train,1,1,PNG\n", "line 2: expected a digest of 64 hexadecimal digits, received 'ABCD'"),
        (f"HEADa,{DIGEST},x,dev,1,1,PNG\n", "line 2: expected the split train, val or test, received 'dev'"),
        (f"HEADa,{DIGEST},x,train,1,-1,PNG\n", "line 2: expected width and height in px, received '1' and '-1'"),
        (f"HEADa,{DIGEST},x,train,1,9999999999,PNG\n", "line 2: expected width and height in px"),
        (f"HEADa,{DIGEST},x,val,1,1,PNG\na,{DIGEST},x,val,1,1,PNG\n", "line 3: expected each path once, .* of line 2"),
        (f"HEADa,{DIGEST},x,val,1,1,PNG\nb,{DIGEST},x,test,1,1,PNG\n", "line 3: expected 'x' in val, as the identical"),
        (f"HEADa,{DIGEST},x,val,1,1,PNG\nb,{DIGEST},y,val,1,1,PNG\n", "line 3: expected 'x' in val, as the identical"),
        ('HEAD"a', "expected a manifest in CSV, received what is none"),
    ],
)
def test_a_faulty_manifest_is_refused_with_its_line(tmp_path, text, message):
    (tmp_path / "m.csv").write_text(text.replace("HEAD", "path,digest,label,split,width,height,format\n"))
    with pytest.raises(ArtefactError, match=message):
        read(tmp_path / "m.csv")


def test_a_missing_manifest_is_named(tmp_path):
    with pytest.raises(ArtefactError, match=r"m\.csv: expected a manifest, as 'prepare' writes it, received nothing"):
        read(tmp_path / "m.csv")
