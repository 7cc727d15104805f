"""Texts and tables that users write."""

import pytest

from i2am.common.tables import read_text, rows_of


def test_a_text_has_its_path_and_no_mark(tmp_path):
    (tmp_path / "list.txt").write_bytes(b"\xef\xbb\xbfa caf\xc3\xa9\r\n")
    assert read_text("prompts", str(tmp_path / "list.txt"), "") == (tmp_path / "list.txt", "a caf\u00e9\r\n")


def test_rows_know_their_lines(tmp_path):
    text = 'id, prompt\r\n\r\n , \r\n7,"a dog\nand, a cat "\n'
    assert rows_of(text, tmp_path) == [(1, ["id", "prompt"]), (5, ["7", "a dog\nand, a cat"])]
    assert rows_of("id\tprompt\n", tmp_path, "\t") == [(1, ["id", "prompt"])]


def test_what_is_no_text_or_no_table_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"labels must be a file that can be read, got .*gone\.csv \(No such file.*\)\. Write one"):
        read_text("labels", tmp_path / "gone.csv", "Write one.")
    (tmp_path / "bytes.csv").write_bytes(b"id\xff")
    with pytest.raises(ValueError, match="text in UTF-8, got other bytes at 2"):
        read_text("labels", tmp_path / "bytes.csv", "Write one.")
    with pytest.raises(ValueError, match=r"line 2 of t\.csv must be a row of a table"):
        rows_of('id,both\n"a,1', "t.csv")
