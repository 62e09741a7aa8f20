"""Tables for a terminal."""

from yolograft.tables import aligned


def test_columns_are_as_wide_as_their_longest_cell():
    rows = [("name", "n"), ("a", 10), ("longer name", 2)]
    assert aligned(rows) == "name         n\na            10\nlonger name  2"


def test_numbers_are_aligned_to_the_right():
    rows = [("", "AP", "name"), ("a", "10.5", "x"), ("b", "9", "yy")]
    assert aligned(rows, right={1}) == "     AP  name\na  10.5  x\nb     9  yy"


def test_no_line_ends_in_spaces():
    assert aligned([("a", ""), ("bcd", "x")]) == "a\nbcd  x"


def test_rows_may_come_one_by_one():
    assert aligned(iter([["a"], ["b"]])) == "a\nb"
