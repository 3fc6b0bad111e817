"""Inputs and results in an object store: a real S3 server on loopback, and what is said when it says no."""

import json
import tarfile

import pytest

pytest.importorskip("moto")
pytest.importorskip("flask_cors")

from grefine_rt.batch import records as kept
from grefine_rt.batch.sources import SourceRows
from grefine_rt.batch.store import location
from grefine_rt.errors import OptionError
from tests.support.batch_runs import images, make, said
from tests.support.s3 import KEYS, s3_server


@pytest.fixture(scope="module")
def endpoint():
    with s3_server() as url:
        yield url


@pytest.fixture
def bucket(endpoint, monkeypatch, request):
    """A new bucket, as a path."""
    for name, value in {**KEYS, "AWS_ENDPOINT_URL": endpoint}.items():
        monkeypatch.setenv(name, value)
    name = f"bucket-{abs(hash(request.node.name)) % 10**9}"
    from pyarrow.fs import S3FileSystem

    host = endpoint.partition("://")[2]
    S3FileSystem(endpoint_override=host, scheme="http", allow_bucket_creation=True).create_dir(name)
    return location(f"s3://{name}?endpoint_override={host}&scheme=http")


def upload(folder, target):
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with target.file_system.open_output_stream(f"{target.key}/{path.relative_to(folder)}") as out:
                out.write(path.read_bytes())
    return target


def uri(path):
    return f"{path}?{path.query}"


def test_a_folder_in_a_store_gives_what_it_gives_on_a_disk(run, fake, tmp_path, bucket):
    pictures = make(tmp_path / "in", 5)
    (pictures / "sub").mkdir()
    (pictures / "sub" / "z.png").write_bytes((pictures / "001.png").read_bytes())
    (pictures / "sub" / "metadata.csv").write_text("file_name,prompt\nz.png,a tree\ngone.png,a house\n")
    upload(pictures, bucket / "in")
    run("batch", pictures, "-o", tmp_path / "out")
    done = run("batch", uri(bucket / "in"), "-o", uri(bucket / "out"), "--report")
    assert done.exit_code == 1, done.stderr
    out = bucket / "out"
    stored = {path.name: path.read_bytes() for path in (out / "images").iterdir()}
    assert stored == images(tmp_path / "out")
    assert said(out) == said(tmp_path / "out")
    assert [record["error"] for record in said(out)][
        -2
    ] == 'There is no image "sub/gone.png"; check the path.'
    parquet = (out / "records" / "part-00000.parquet").read_bytes()
    assert parquet[:4] == b"PAR1"
    assert b"data:image/jpeg" in (out / "report.html").read_bytes()
    calls = fake.engines["perceptual"].calls
    again = run("batch", uri(bucket / "in"), "-o", uri(bucket / "out"), "--json")
    counts = json.loads(again.stdout)
    assert (counts["rows"], counts["done_before"], fake.engines["perceptual"].calls) == (7, 7, calls)


def test_a_result_that_a_store_lost_is_made_again_and_records_survive_a_kill(
    run, fake, tmp_path, bucket, monkeypatch
):
    pictures, out = make(tmp_path / "in", 5), bucket / "out"
    with monkeypatch.context() as killed:
        killed.setattr(kept, "STORE_EVERY", 0.0)
        killed.setattr(kept.Records, "close_part", lambda self: None)
        run("batch", pictures, "-o", uri(out))
    first = said(out)
    assert len(first) == 5
    next((out / "images").iterdir()).unlink()
    done = run("batch", pictures, "-o", uri(out), "--json")
    assert json.loads(done.stdout)["done_before"] == 4
    assert sorted(record["image_id"] for record in said(out)) == sorted(item["image_id"] for item in first)


def test_shards_and_tables_in_a_store_give_the_rows_that_they_give_on_a_disk(tmp_path, bucket):
    pictures = make(tmp_path / "in", 3)
    with tarfile.open(tmp_path / "s.tar", "w") as archive:
        for path in sorted(pictures.iterdir()):
            archive.add(path, path.name)
    (pictures / "t.csv").write_text("image,prompt\n001.png,a house\nnot.png,a tree\n")
    upload(tmp_path, bucket / "all")
    for name in ("s.tar", "in/t.csv"):
        there, here = SourceRows(bucket / "all" / name), SourceRows(tmp_path / name)
        assert there.count() == here.count()
        for one, other in zip(there, here, strict=True):
            assert (one.name, one.prompt, one.data) == (other.name, other.prompt, other.data)


@pytest.mark.parametrize("wrong", ["nowhere", "keys", "scheme", "port"])
def test_what_a_store_does_not_give_is_one_sentence(run, fake, tmp_path, bucket, endpoint, wrong):
    host = endpoint.partition("://")[2]
    source, words = {
        "nowhere": (f"s3://nobody/in?endpoint_override={host}&scheme=http", "There is no input"),
        "keys": ("s3://bucket/in?nonsense=1", "s3:// cannot be read here"),
        "scheme": ("nowhere://bucket/in", "nowhere:// cannot be read here"),
        "port": (
            "s3://b/in?endpoint_override=127.0.0.1:9&scheme=http&connect_timeout=1",
            "cannot be reached",
        ),
    }[wrong]
    done = run("batch", source, "-o", tmp_path / "out")
    assert done.exit_code == 2
    assert words in done.stderr
    assert done.stderr.count("\n") == 1
    with pytest.raises(OptionError):
        SourceRows(location(source))


def test_refused_credentials_are_told_by_name():
    from grefine_rt.batch.store import reason_of

    error = OSError("AWS Error ACCESS_DENIED during HeadObject operation: No response body.")
    assert "AWS_ACCESS_KEY_ID" in reason_of(error)
