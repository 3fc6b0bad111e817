"""Files that appear whole or not at all."""

import os

import pytest

from grefine_rt.errors import OutputError
from grefine_rt.files import write_whole, written_whole


def test_a_file_appears_when_it_is_whole(tmp_path):
    path = tmp_path / "file"
    with written_whole(path) as temporary:
        assert temporary.parent == tmp_path
        temporary.write_text("new")
        assert not path.exists()
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("interruption", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_files_appear_whole_or_not_at_all(tmp_path, monkeypatch, interruption):
    path = write_whole(tmp_path / "out.txt", b"first")

    def interrupted(_):
        raise interruption

    monkeypatch.setattr(os, "fsync", interrupted)
    expected = OutputError if isinstance(interruption, OSError) else KeyboardInterrupt
    with pytest.raises(expected):
        write_whole(path, b"second")
    assert path.read_bytes() == b"first"
    assert os.listdir(tmp_path) == ["out.txt"]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no modes of files")
def test_others_may_read_what_the_umask_lets_them(tmp_path):
    before = os.umask(0o027)
    try:
        written = write_whole(tmp_path / "file", b"data")
    finally:
        os.umask(before)
    assert written.stat().st_mode & 0o777 == 0o640


def test_a_missing_folder_is_one_sentence(tmp_path):
    with pytest.raises(OutputError, match=r'none/file" cannot be written: No such file or directory\.$'):
        write_whole(tmp_path / "none" / "file", b"")
