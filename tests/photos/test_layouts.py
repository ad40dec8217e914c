import os
from collections.abc import Iterable
from pathlib import Path

import pytest

from pipeline.errors import InputError, StorageError
from pipeline.photos.layouts import discover
from pipeline.photos.source import Candidate, Rejected, Source


def put(root: Path, *paths: str) -> None:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"whatever")


def found(root: Path, *, labels: Path | None = None, pattern: str | None = None) -> Source:
    return discover(root, labels_csv=labels, label_pattern=pattern)


def rows(candidates: Iterable[Candidate]) -> list[tuple[str, str, str | None]]:
    return [tuple(candidate) for candidate in candidates]


# --- folders


def test_one_folder_a_class(tmp_path):
    put(tmp_path, "dogs/b.jpg", "dogs/a.jpg", "cats/c.png")
    assert found(tmp_path) == Source(
        candidates=[
            Candidate("cats/c.png", "cats", None),
            Candidate("dogs/a.jpg", "dogs", None),
            Candidate("dogs/b.jpg", "dogs", None),
        ],
        rejected=[],
        skipped=0,
        warnings=[],
    )


def test_class_folders_may_nest_and_their_first_level_is_the_label(tmp_path):
    put(tmp_path, "cats/2023/may/a.jpg", "cats/b.jpg", "dogs/c.jpg")
    assert rows(found(tmp_path).candidates) == [
        ("cats/2023/may/a.jpg", "cats", None),
        ("cats/b.jpg", "cats", None),
        ("dogs/c.jpg", "dogs", None),
    ]


def test_every_file_of_a_class_folder_is_a_candidate_whatever_its_name(tmp_path):
    put(tmp_path, "cats/a", "cats/notes.txt", "dogs/b.JPG")
    assert [candidate.path for candidate in found(tmp_path).candidates] == ["cats/a", "cats/notes.txt", "dogs/b.JPG"]


def test_train_val_and_test_folders_keep_their_split(tmp_path):
    put(tmp_path, "train/a/1.jpg", "train/b/2.jpg", "val/a/3.jpg", "test/b/4.jpg")
    assert rows(found(tmp_path).candidates) == [
        ("test/b/4.jpg", "b", "test"),
        ("train/a/1.jpg", "a", "train"),
        ("train/b/2.jpg", "b", "train"),
        ("val/a/3.jpg", "a", "val"),
    ]


@pytest.mark.parametrize(
    ("train", "val", "test"),
    [
        ("Train", "valid", "TEST"),
        ("training", "validation", "testing"),
        ("training_set", "validation_set", "test_set"),
        ("trainset", "valset", "testset"),
        ("TrainSet", "Dev", "Test-Set"),
        ("training set", "dev_set", "test"),
    ],
)
def test_split_folders_have_many_names(tmp_path, train, val, test):
    put(tmp_path, f"{train}/a/1.jpg", f"{train}/b/2.jpg", f"{val}/a/3.jpg", f"{test}/b/4.jpg")
    splits = {candidate.path: candidate.split for candidate in found(tmp_path).candidates}
    assert splits == {
        f"{train}/a/1.jpg": "train",
        f"{train}/b/2.jpg": "train",
        f"{val}/a/3.jpg": "val",
        f"{test}/b/4.jpg": "test",
    }


@pytest.mark.parametrize("other", ["test", "holdout", "2024"])
def test_beside_train_a_single_other_folder_of_classes_is_the_test_split(tmp_path, other):
    put(tmp_path, "train/a/1.jpg", "train/b/2.jpg", f"{other}/a/3.jpg")
    source = found(tmp_path)
    assert {candidate.path: candidate.split for candidate in source.candidates} == {
        "train/a/1.jpg": "train",
        "train/b/2.jpg": "train",
        f"{other}/a/3.jpg": "test",
    }
    assert source.warnings == []


def test_beside_train_a_validation_folder_alone_is_the_test_split_with_a_warning(tmp_path):
    put(tmp_path, "train/a/1.jpg", "train/b/2.jpg", "valid/a/3.jpg")
    source = found(tmp_path)
    assert [candidate.split for candidate in source.candidates] == ["train", "train", "test"]
    assert source.warnings == [
        "the source has train and 'valid' only: it is the test split, validation is taken from train"
    ]


def test_split_folders_nested_in_folders_of_the_same_meaning_are_descended(tmp_path):
    put(
        tmp_path,
        "training_set/training_set/cats/1.jpg",
        "training_set/training_set/dogs/2.jpg",
        "test_set/test_set/cats/3.jpg",
    )
    assert rows(found(tmp_path).candidates) == [
        ("test_set/test_set/cats/3.jpg", "cats", "test"),
        ("training_set/training_set/cats/1.jpg", "cats", "train"),
        ("training_set/training_set/dogs/2.jpg", "dogs", "train"),
    ]


def test_a_split_folder_with_a_single_class_is_not_descended(tmp_path):
    put(tmp_path, "train/a/1.jpg", "train/b/2.jpg", "test/b/deep/3.jpg")
    assert ("test/b/deep/3.jpg", "b", "test") in rows(found(tmp_path).candidates)


def test_a_wrapping_folder_is_descended(tmp_path):
    put(tmp_path, "README.md", "archive/data/cats/1.jpg", "archive/data/dogs/2.jpg")
    source = found(tmp_path)
    assert rows(source.candidates) == [
        ("archive/data/cats/1.jpg", "cats", None),
        ("archive/data/dogs/2.jpg", "dogs", None),
    ]
    assert source.skipped == 1


def test_a_train_folder_alone_gives_no_splits(tmp_path):
    put(tmp_path, "train/cats/1.jpg", "train/dogs/2.jpg")
    assert rows(found(tmp_path).candidates) == [("train/cats/1.jpg", "cats", None), ("train/dogs/2.jpg", "dogs", None)]


@pytest.mark.parametrize("others", [("bus",), ("bus", "tram")])
def test_a_class_may_be_called_train(tmp_path, others):
    put(tmp_path, "train/1.jpg", *(f"{other}/2.jpg" for other in others))
    assert {candidate.label for candidate in found(tmp_path).candidates} == {"train", *others}


def test_an_empty_class_folder_is_a_warning(tmp_path):
    put(tmp_path, "a/1.jpg", "b/2.jpg")
    (tmp_path / "c").mkdir()
    assert found(tmp_path).warnings == ["class folder 'c' is empty"]


def test_hidden_and_system_files_are_skipped_and_counted(tmp_path):
    put(tmp_path, "a/1.jpg", "b/2.jpg")
    put(tmp_path, ".DS_Store", "a/._1.jpg", "a/Thumbs.db", "b/desktop.ini", "__MACOSX/a/._1.jpg", ".git/config")
    put(
        tmp_path,
        "b/Icon\r",
        "lost+found/1.jpg",
        "$RECYCLE.BIN/1.jpg",
        "System Volume Information/x",
        "a/#recycle/1.jpg",
    )
    source = found(tmp_path)
    assert [candidate.path for candidate in source.candidates] == ["a/1.jpg", "b/2.jpg"]
    assert source.skipped == 11


def test_files_beside_class_folders_that_are_no_images_are_skipped_and_counted(tmp_path):
    put(tmp_path, "README.md", "train/classes.txt", "train/a/1.jpg", "train/b/2.jpg", "test/a/3.jpg")
    source = found(tmp_path)
    assert len(source.candidates) == 3
    assert source.skipped == 2


def test_candidates_are_sorted_by_path_as_text(tmp_path):
    put(tmp_path, "a/10.jpg", "a/9.jpg", "a b/1.jpg", "B/1.jpg", "a/é.jpg")
    assert [candidate.path for candidate in found(tmp_path).candidates] == [
        "B/1.jpg",
        "a b/1.jpg",
        "a/10.jpg",
        "a/9.jpg",
        "a/é.jpg",
    ]


# --- links and odd names


def test_links_to_files_and_folders_are_followed(tmp_path):
    put(tmp_path, "store/x/1.jpg", "store/2.jpg", "root/a/0.jpg", "root/b/0.jpg")
    (tmp_path / "root/a/linked").symlink_to(tmp_path / "store/x")
    (tmp_path / "root/b/linked.jpg").symlink_to(tmp_path / "store/2.jpg")
    (tmp_path / "root/c").symlink_to(tmp_path / "store")
    assert [candidate.path for candidate in found(tmp_path / "root").candidates] == [
        "a/0.jpg",
        "a/linked/1.jpg",
        "b/0.jpg",
        "b/linked.jpg",
        "c/2.jpg",
        "c/x/1.jpg",
    ]


def test_loops_of_links_are_cut(tmp_path):
    put(tmp_path, "a/1.jpg", "a/deep/2.jpg", "b/3.jpg")
    (tmp_path / "a/deep/up").symlink_to(tmp_path / "a")
    (tmp_path / "a/root").symlink_to(tmp_path)
    (tmp_path / "b/self.jpg").symlink_to("self.jpg")
    source = found(tmp_path)
    assert [candidate.path for candidate in source.candidates] == ["a/1.jpg", "a/deep/2.jpg", "b/3.jpg"]
    assert source.rejected == [
        Rejected("a/deep/up", "a link to a folder above it"),
        Rejected("a/root", "a link to a folder above it"),
        Rejected("b/self.jpg", "a loop of links"),
    ]


def test_a_wrapping_folder_that_links_to_itself_ends(tmp_path):
    (tmp_path / "again").symlink_to(tmp_path)
    with pytest.raises(InputError, match=r"received 1 files that cannot be used, as again \(a link to a folder above"):
        found(tmp_path)


def test_broken_links_and_pipes_are_rejected(tmp_path):
    put(tmp_path, "a/1.jpg", "b/2.jpg")
    (tmp_path / "a/gone.jpg").symlink_to("nowhere.jpg")
    os.mkfifo(tmp_path / "b/pipe.jpg")
    (tmp_path / "b/zero.jpg").symlink_to("/dev/zero")
    assert found(tmp_path).rejected == [
        Rejected("a/gone.jpg", "a broken link"),
        Rejected("b/pipe.jpg", "not a regular file"),
        Rejected("b/zero.jpg", "not a regular file"),
    ]


def test_a_folder_that_is_named_like_an_image_is_a_folder(tmp_path):
    put(tmp_path, "a/x.jpg/1.jpg", "b/2.jpg")
    (tmp_path / "b/y.jpg").mkdir()
    assert [candidate.path for candidate in found(tmp_path).candidates] == ["a/x.jpg/1.jpg", "b/2.jpg"]


def test_names_that_are_not_utf8_are_rejected_by_a_name_that_is(tmp_path):
    put(tmp_path, "a/1.jpg", "b/2.jpg")
    try:
        put(tmp_path, os.fsdecode(b"a/caf\xe9.jpg"), os.fsdecode(b"b/\xff/3.jpg"))
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    assert found(tmp_path).rejected == [
        Rejected(r"a/caf\xe9.jpg", "the name is not UTF-8"),
        Rejected(r"b/\xff/3.jpg", "the name is not UTF-8"),
    ]


# --- sources that are refused


def test_a_root_that_is_missing_or_a_file_is_refused(tmp_path):
    put(tmp_path, "photos.zip")
    with pytest.raises(InputError, match="expected a folder of images, received nothing of that name"):
        found(tmp_path / "nowhere")
    with pytest.raises(InputError, match="expected a folder of images, received a file"):
        found(tmp_path / "photos.zip")


def test_a_root_without_images_is_refused(tmp_path):
    with pytest.raises(InputError, match="expected images, received none"):
        found(tmp_path)
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with pytest.raises(InputError, match="expected images, received none"):
        found(tmp_path)


def test_a_single_class_is_refused(tmp_path):
    put(tmp_path, "cats/1.jpg", "cats/2.jpg")
    with pytest.raises(InputError, match="expected at least two classes, received a single one: 'cats'"):
        found(tmp_path)


@pytest.mark.parametrize("folder", ["", "wrapped/"])
def test_a_flat_folder_without_a_pattern_is_refused_with_the_remedy(tmp_path, folder):
    put(tmp_path, f"{folder}cat.0.jpg", f"{folder}dog.0.jpg")
    with pytest.raises(InputError, match=r"(single one: 'wrapped'|2 images in a flat folder): .*`label_pattern`"):
        found(tmp_path)


def test_flat_split_folders_without_a_pattern_are_refused_with_the_remedy(tmp_path):
    put(tmp_path, "train/cat.0.jpg", "train/dog.0.jpg", "test/1.jpg")
    with pytest.raises(InputError, match=r"train: 2 images in a flat folder.*`label_pattern`.*`labels`"):
        found(tmp_path)


@pytest.mark.parametrize("stray", ["stray.jpg", "train/stray.JPG"])
def test_images_beside_class_folders_are_refused(tmp_path, stray):
    put(tmp_path, "train/a/1.jpg", "train/b/2.jpg", "test/a/3.jpg", stray)
    with pytest.raises(InputError, match=rf"1 image, as {stray}, beside the"):
        found(tmp_path)


def test_splits_without_train_are_refused(tmp_path):
    put(tmp_path, "val/a/1.jpg", "test/b/2.jpg")
    with pytest.raises(InputError, match="expected a train folder beside the other splits, received 'test', 'val'"):
        found(tmp_path)


@pytest.mark.parametrize("extra", ["unlabelled", "validation"])
def test_a_folder_that_is_no_split_beside_splits_is_refused(tmp_path, extra):
    put(tmp_path, "train/a/1.jpg", "val/b/2.jpg", "test/b/3.jpg", f"{extra}/a/4.jpg")
    with pytest.raises(InputError, match=f"expected one folder each for train, val and test, received .*'{extra}'"):
        found(tmp_path)


def test_a_folder_that_cannot_be_listed_stops_the_run(tmp_path, monkeypatch):
    put(tmp_path, "a/1.jpg", "b/2.jpg")
    scandir = os.scandir

    def failing(path):
        if Path(path).name == "b":
            raise OSError(5, "Input/output error")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", failing)
    with pytest.raises(StorageError, match="b: the folder cannot be read: Input/output error"):
        found(tmp_path)


# --- names


PATTERN = r"^([a-z]+)\."


def test_a_pattern_takes_the_label_from_names_in_a_flat_folder(tmp_path):
    put(tmp_path, "cat.0.jpg", "dog.0.jpg", "more/cat.1.jpg")
    assert rows(found(tmp_path, pattern=PATTERN).candidates) == [
        ("cat.0.jpg", "cat", None),
        ("dog.0.jpg", "dog", None),
        ("more/cat.1.jpg", "cat", None),
    ]


def test_a_pattern_works_below_split_folders(tmp_path):
    put(tmp_path, "data/train/cat.0.jpg", "data/train/dog.0.jpg", "data/test1/cat.9.jpg")
    assert rows(found(tmp_path, pattern=PATTERN).candidates) == [
        ("data/test1/cat.9.jpg", "cat", "test"),
        ("data/train/cat.0.jpg", "cat", "train"),
        ("data/train/dog.0.jpg", "dog", "train"),
    ]


def test_names_that_do_not_match_the_pattern_are_rejected(tmp_path):
    put(tmp_path, "cat.0.jpg", "dog.0.jpg", "17.jpg")
    assert found(tmp_path, pattern=PATTERN).rejected == [
        Rejected("17.jpg", r"the name does not match the label pattern '^([a-z]+)\\.'")
    ]


@pytest.mark.parametrize("pattern", ["^cat", "(a)(b)", "(unclosed"])
def test_a_pattern_must_be_valid_and_hold_one_group(tmp_path, pattern):
    put(tmp_path, "cat.0.jpg")
    with pytest.raises(InputError, match="`label_pattern`: expected"):
        found(tmp_path, pattern=pattern)


# --- CSV


def listed(tmp_path: Path, text: str) -> Source:
    put(tmp_path, "a", "a.jpg", "x/b.jpg", "ü.jpg")
    path = tmp_path / "labels.csv"
    path.write_text(text, encoding="utf-8", newline="")
    return found(tmp_path, labels=path)


def test_a_csv_gives_paths_and_labels(tmp_path):
    source = listed(tmp_path, "\ufeffpath,label\r\nx/b.jpg,dog\r\n./a.jpg, cat \r\n\r\n")
    assert rows(source.candidates) == [("a.jpg", "cat", None), ("x/b.jpg", "dog", None)]


def test_a_csv_may_give_splits_in_any_of_their_names_and_other_columns(tmp_path):
    source = listed(tmp_path, "label,path,Split,width\ncat,a,Training,3\ndog,b,valid,4\ncat,c,test,5\n")
    assert rows(source.candidates) == [("a", "cat", "train"), ("b", "dog", "val"), ("c", "cat", "test")]


def test_in_a_csv_too_train_and_one_other_split_are_train_and_test(tmp_path):
    source = listed(tmp_path, "path,label,split\na,cat,train\nb,dog,train\nc,cat,val\n")
    assert [candidate.split for candidate in source.candidates] == ["train", "train", "test"]
    assert source.warnings == [
        "the source has train and 'val' only: it is the test split, validation is taken from train"
    ]


def test_a_csv_that_knows_only_train_gives_no_splits(tmp_path):
    assert {c.split for c in listed(tmp_path, "path,label,split\na,cat,train\nb,dog,train\n").candidates} == {None}


def test_a_csv_holds_names_with_commas_quotes_and_line_ends(tmp_path):
    source = listed(tmp_path, 'path,label\n"a, ""b""\n.jpg",cat\nü.jpg,dog\n')
    assert [candidate.path for candidate in source.candidates] == ['a, "b"\n.jpg', "ü.jpg"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"line 1: expected a header with path,label\[,split\], separated by commas, received ''"),
        ("a.jpg,cat\n", "line 1: expected a header"),
        ("path;label\n", "line 1: expected a header .*, separated by commas, received 'path;label'"),
        ("path,label,label\na,cat,dog\n", "csv: expected one column 'label', received 2"),
        ("path,label\na,cat\nb\n", "line 3: expected 2 fields, received 1"),
        ("path,label\n,cat\n", "line 2: expected a path, received none"),
        ("path,label\na,\n", "line 2: expected a label, received none"),
        ("path,label\n/etc/a,cat\n", "line 2: expected a path below the image root, received '/etc/a'"),
        ("path,label\nx/../../a,cat\n", "line 2: expected a path below the image root"),
        (
            "path,label\na,cat\n./a,dog\n",
            "line 3: 'a' is listed twice, as 'cat' and as 'dog': expected once, .* on line 2",
        ),
        ("path,label,split\na,cat,train\nb,cat,later\n", "line 3: expected a split .* received 'later'"),
        ("path,label,split\na,cat,train\nb,cat,\n", "line 3: expected a split .* received ''"),
        ("path,label,split\na,cat,test\nb,dog,test\n", "expected rows of the split 'train', received 'test' only"),
        ('path,label\n"a,cat\n', "line 2: expected CSV, received what is none"),
        ("path,label\na,cat\n", "csv: expected at least two classes, received 'cat' in each row"),
        ("path,label\n", "csv: expected rows with a label, received none"),
        (
            "path,label,error\na,,broken\n",
            r"csv: expected rows with a label, received none, and 1 without, as a \(broken",
        ),
        ("path,label\nC:\\a,cat\nb.jpg,dog\n", r"csv: expected paths of files below .* none is there, as 'C:\\\\a'"),
    ],
)
def test_a_faulty_csv_is_refused_with_its_line(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        listed(tmp_path, text)


def test_a_csv_that_is_missing_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"none.csv: expected a CSV of path,label\[,split\], received nothing"):
        found(tmp_path, labels=tmp_path / "none.csv")


@pytest.mark.parametrize(
    ("data", "received"),
    [
        ("path,label\ncafé,cat\n".encode("latin-1"), "byte 0xe9"),
        ("path,label\na,cat\n".encode("utf-16"), "UTF-16: save it again"),
        ("path,label\na,cat\n".encode("utf-16-le"), "UTF-16: save it again"),
        (b"PK\3\4\0\0\0\0", "a file that is no text"),
    ],
)
def test_a_csv_that_is_not_utf8_is_refused_as_what_it_is(tmp_path, data, received):
    (tmp_path / "labels.csv").write_bytes(data)
    with pytest.raises(InputError, match=f"labels.csv: expected .*UTF-8, received {received}"):
        found(tmp_path, labels=tmp_path / "labels.csv")


def test_a_csv_and_a_pattern_together_are_refused(tmp_path):
    with pytest.raises(InputError, match="expected one of them, received both"):
        found(tmp_path, labels=tmp_path / "labels.csv", pattern=PATTERN)


@pytest.mark.parametrize(
    "names",
    [
        ("Dog", "dog"),
        ("caf\u00e9", "cafe\u0301"),
        ("a b", "a  b"),
        ("a_b", "a b"),
        ("a-b", "a\u2013b"),
        ("ab", "a\u200bb"),
        ("1", "01"),
        ("1", "1.0"),
    ],
)
def test_classes_whose_names_look_alike_are_a_warning(tmp_path, names):
    for name in (*names, "other", "10"):
        put(tmp_path / "photos", f"{name}/1.jpg")
    (warning,) = found(tmp_path / "photos").warnings
    assert warning.startswith("2 classes have names that look alike: ")
    assert all(ascii(name) in warning for name in names)


@pytest.mark.parametrize(
    ("paths", "told"),
    [
        (
            "train_images/1.jpg test_images/2.jpg",
            "some are named like splits: if they are, call them train, val and test",
        ),
        ("train/1.jpg test1/2.jpg", "some are named like splits"),
        ("seg_train/sea/1.jpg seg_test/sea/2.jpg seg_pred/3.jpg", "some are named like splits"),
        ("cat/train/1.jpg cat/test/2.jpg dog/train/3.jpg dog/test/4.jpg", "several of them hold 'test', 'train'"),
        ("fold1/cat/1.jpg fold1/dog/2.jpg fold2/cat/3.jpg fold2/dog/4.jpg", "several of them hold 'cat', 'dog'"),
        ("cats/2023/1.jpg dogs/2024/2.jpg", None),
        ("cats/1.jpg cats/old/2.jpg dogs/3.jpg dogs/old/4.jpg", None),
        ("train/1.jpg bus/2.jpg", None),
        ("test/1.jpg control/2.jpg", None),
    ],
)
def test_folders_that_may_not_be_the_classes_are_a_warning(tmp_path, paths, told):
    put(tmp_path, *paths.split())
    assert [one.split("though ")[-1][: len(told or "")] for one in found(tmp_path).warnings] == [told] * bool(told)


def test_what_was_unwrapped_is_said(tmp_path):
    put(tmp_path / "photos", "dogs/2023/1.jpg", "dogs/2024/1.jpg")
    (warning,) = found(tmp_path / "photos").warnings
    assert "holds nothing but 'dogs': the folders in there are the classes" in warning


@pytest.mark.parametrize(
    ("written", "name"),
    [
        (" 1.jpg", "1.jpg"),
        (" 1.jpg", " 1.jpg"),
        ("x\\1.jpg", "x/1.jpg"),
        ("caf\u00e9.jpg", "cafe\u0301.jpg"),
        ("cafe\u0301.jpg", "caf\u00e9.jpg"),
        ("photos/x/1.jpg", "x/1.jpg"),  # as `predict photos` writes it in the folder above
        ("{root}/x/1.jpg", "x/1.jpg"),
    ],
)
def test_a_path_of_a_csv_is_read_as_that_of_the_file_that_is_there(tmp_path, monkeypatch, written, name):
    monkeypatch.chdir(tmp_path)
    put(tmp_path / "photos", "2.jpg", name)
    written = written.format(root=tmp_path / "photos")
    (tmp_path / "labels.csv").write_text(f"path,label\n{written},a\n2.jpg,b\n , \n")
    source = found(Path("photos"), labels=tmp_path / "labels.csv")
    assert [one.path for one in source.candidates] == sorted([name, "2.jpg"])


@pytest.mark.parametrize(("header", "told"), [("set", True), ("is_valid", True), ("split,set", False), ("note", False)])
def test_a_column_of_splits_that_is_not_read_is_a_warning(tmp_path, header, told):
    put(tmp_path, "1.jpg", "2.jpg")
    rows = [f"{n}.jpg,{n},{word}" for n, word in ((1, "train"), (2, "Test" if header != "note" else "sharp"))]
    more = ",train" * header.count(",")
    (tmp_path / "labels.csv").write_text("\n".join([f"path,label,{header}", *(row + more for row in rows)]))
    warnings = found(tmp_path, labels=tmp_path / "labels.csv").warnings
    assert ["is not read: splits" in one for one in warnings] == [True] * told


def test_the_csv_of_predict_is_a_source_without_the_photos_that_got_no_label(tmp_path):
    lines = [
        "path,label,p_a,p_b,abstained,error",
        "1.jpg,a,0.9,0.1,0,",
        "2.jpg,,0.5,0.5,1,",
        "3.jpg,,,,,broken",
        "4.jpg,b,0,1,0,",
    ]
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    put(tmp_path, "1.jpg")
    source = found(tmp_path, labels=tmp_path / "labels.csv")
    assert [(one.path, one.label) for one in source.candidates] == [("1.jpg", "a"), ("4.jpg", "b")]
    assert source.rejected == [("2.jpg", "the classifier gave it no label"), ("3.jpg", "broken")]


def test_a_flat_test_folder_beside_labelled_ones_is_for_predict(tmp_path):
    put(tmp_path, "train/a/1.jpg", "train/b/1.jpg", "test/1.jpg", "test/2.jpg")
    with pytest.raises(InputError, match=r"test: 2 images in a flat folder: .*label them with a trained head"):
        found(tmp_path)
