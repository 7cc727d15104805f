"""Lists of prompts on disk: what is read, and what is refused."""

import json

import pytest

from i2am.data.prompts import Asked, read_prompts, write_prompts


def written(folder, name, text):
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_a_text_file_has_one_prompt_a_line(tmp_path):
    found = read_prompts(written(tmp_path, "list.txt", "\ufeffa red ring\n\n  two, or more \n"))
    assert found == [Asked("0000", "a red ring"), Asked("0001", "two, or more")]


def test_a_table_is_read_and_written(tmp_path):
    written(tmp_path, "dog.png", "")
    path = written(tmp_path, "list.csv", 'prompt,id,seed,image,group\n"a dog, asleep",d1,7,dog.png,siblings\na cat,,,,\n')
    found = read_prompts(path)
    assert found == [Asked("d1", "a dog, asleep", 7, tmp_path / "dog.png", "siblings"), Asked("0001", "a cat")]
    again = write_prompts(tmp_path / "again.tsv", found)
    assert read_prompts(again) == found
    assert again.read_text().splitlines()[0] == "id\tprompt\tseed\timage\tgroup"
    assert write_prompts(again, found[1:]).read_text() == "id\tprompt\n0001\ta cat\n"
    (tmp_path / "lists").mkdir()
    elsewhere = read_prompts(write_prompts(tmp_path / "lists" / "again.csv", found))  # a picture's name is relative to the table
    assert elsewhere[0].image is not None
    assert elsewhere[0].image.samefile(tmp_path / "dog.png")


def test_captions_of_coco_may_repeat(tmp_path):
    listed = [{"id": 48, "caption": "A dog\n runs. "}, {"id": 9, "caption": "A dog runs."}]
    path = written(tmp_path, "captions.json", json.dumps({"annotations": listed}))
    assert read_prompts(path) == [Asked("48", "A dog runs."), Asked("9", "A dog runs.")]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("list.txt", "\n \n", "at least one prompt"),
        ("list.txt", "a dog\na cat\na dog\n", "got 'a dog' twice or more"),
        ("list.csv", "a dog\n", 'a first line of names: "prompt"'),
        ("list.csv", "prompt,id\na dog,d\na cat,D\n", "got d twice or more"),
        ("list.csv", "prompt,seed\na dog,3\na dog,3\n", "got 'a dog' twice with one seed"),
        ("list.csv", "prompt,seed\na dog,-3\n", "the seed in line 2"),
        ("list.csv", "prompt,image\na dog,gone.png\n", "the image in line 2"),
        ("list.csv", "prompt,id\na dog, asleep,d\n", "2 columns, got 3"),
        ("list.csv", "prompt,id\na dog,../d\n", "as it names files"),
        ("list.csv", "prompt,id\n,d\n", "prompt d must be some words"),
        ("list.csv", f"prompt,id\na dog,{'d' * 201}\n", "at most 200 bytes"),
        ("list.csv", 'prompt,id\n"a dog,d\n', "a table"),
        ("list.json", '{"annotations": [{"caption": "a dog"}]}', "COCO's captions"),
        ("list.json", "[", "COCO's captions"),
    ],
)
def test_bad_lists_are_refused(name, text, said, tmp_path):
    with pytest.raises(ValueError, match=r"^i2am: ") as error:
        read_prompts(written(tmp_path, name, text))
    assert said in str(error.value)


def test_no_file_and_other_bytes(tmp_path):
    with pytest.raises(ValueError, match="No such file"):
        read_prompts(tmp_path / "none.txt")
    (tmp_path / "list.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="text in UTF-8"):
        read_prompts(tmp_path / "list.txt")
    with pytest.raises(ValueError, match=r"a \.csv or \.tsv file"):
        write_prompts(tmp_path / "list.txt", [Asked("1", "a dog")])
