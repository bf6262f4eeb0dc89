"""Reference files: what is read, and every mistake by file and line."""

from typing import Literal

import pytest
from pydantic import PositiveFloat, PositiveInt

from accelsim.errors import ConfigError
from accelsim.validation.reference import Row
from accelsim.validation.table import MAX_BYTES, read_rows

HEADER = "kind,rows,time_us\n"


class CopyRow(Row):
    kind: Literal["copy", "fill"]
    rows: PositiveInt | None = None
    time_us: PositiveFloat


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def write(content):
        path = tmp_path.joinpath("r.csv")
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path.relative_to(tmp_path)

    return write


def mistakes(file, content):
    with pytest.raises(ConfigError) as error:
        read_rows(file(content), CopyRow)
    return str(error.value)


def test_rows_keep_their_lines_and_other_columns_are_ignored(file):
    rows = read_rows(file("\ufeffnote,time_us, kind\n\nx,1.5,copy\n,2,fill\n"), CopyRow)
    assert rows == [
        CopyRow(line=3, kind="copy", time_us=1.5),
        CopyRow(line=4, kind="fill", time_us=2),
    ]


def test_an_empty_cell_is_an_absent_value(file):
    assert [row.rows for row in read_rows(file(HEADER + "copy,,1\ncopy,7,1\n"), CopyRow)] == [
        None,
        7,
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "r.csv:1: the file is empty, expected the columns kind, rows, time_us"),
        (HEADER, "r.csv:1: found no rows below the names of the columns"),
        (
            "kind,time_ms\ncopy,1\n",
            "r.csv:1: missing column 'time_us', did you mean 'time_ms'?; "
            "expected: kind, rows, time_us",
        ),
        ("kind,kind,time_us\n", "r.csv:1: the column 'kind' appears twice"),
        (HEADER + "copy,1\n", "r.csv:2: found 2 values for 3 columns"),
        (
            HEADER + "\ncopyy,1,1\n",
            "r.csv:3: kind: found 'copyy', did you mean 'copy'?; allowed: 'copy' or 'fill'",
        ),
        (HEADER + "copy,1,fast\n", "r.csv:2: time_us: found 'fast', expected a valid number"),
        (HEADER + "copy,1.5,1\n", "r.csv:2: rows: found '1.5', expected a valid integer"),
        (HEADER + "copy,1,0\n", "r.csv:2: time_us: found '0', expected a value greater than 0"),
        (HEADER + "copy,1,nan\n", "r.csv:2: time_us: found 'nan', expected a finite number"),
        (HEADER + "copy,1,\n", "r.csv:2: time_us: found no value"),
        (
            HEADER + "copy,0,0\n" * 6,
            "\n".join(
                f"r.csv:{line}: {column}: found '0', expected a value greater than 0"
                for line in range(2, 7)
                for column in ("rows", "time_us")
            )
            + "\nand 2 more mistakes",
        ),
        (HEADER + 'copy,1,"1\n', "r.csv:2: not comma-separated: unexpected end of data"),
        (HEADER.encode() + b"copy,1,\xff\n", "r.csv: byte 25 is not text in UTF-8"),
    ],
)
def test_mistakes(file, content, message):
    assert mistakes(file, content) == message


def test_a_file_that_cannot_be_read(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.csv: no such file$"):
        read_rows(tmp_path / "none.csv", CopyRow)
    with pytest.raises(ConfigError, match=r"found no regular file$"):
        read_rows(tmp_path, CopyRow)
    huge = tmp_path / "huge.csv"
    with huge.open("wb") as sparse:
        sparse.truncate(MAX_BYTES + 1)
    with pytest.raises(ConfigError, match=f"larger than the {MAX_BYTES} bytes allowed$"):
        read_rows(huge, CopyRow)
