"""The report over a run of 10,000 rows in headless Chromium, at two widths."""

import pytest
from PIL import Image

from grefine_rt.batch.report import render
from tests.support import fake_bundle
from tests.support.batch_runs import rows_of_a_run
from tests.support.chromium import PROGRAM, chromium

pytestmark = [pytest.mark.slow, pytest.mark.skipif(PROGRAM is None, reason="Chromium is not installed")]


def test_ten_thousand_rows_open_in_a_browser(tmp_path):
    Image.fromarray(fake_bundle.scene([["house", "sea"]] * 2)).save(tmp_path / "in.png")
    Image.fromarray(fake_bundle.scene([["house", "house"]] * 2)).save(tmp_path / "out.png")
    rows = rows_of_a_run(10_000)
    for row in rows:
        if row["status"] == "refined":
            row |= {"image": "in.png", "output": "out.png"}
    path = tmp_path / "report.html"
    path.write_text(render(rows, tmp_path, tmp_path), encoding="utf-8")
    assert path.stat().st_size < 2_000_000
    with chromium(tmp_path / "profile") as page:
        for width in (1400, 390):
            page.size(width, 844, mobile=width < 500)
            page.open(path.as_uri())
            assert page.run("document.querySelector('h1').textContent") == "10,000 pictures"
            assert page.run("document.documentElement.scrollWidth") <= width
            assert page.run("document.querySelectorAll('.charts svg path').length") >= 4
            page.wait("[...document.images].every(image => image.complete)")
            shown = page.run("[...document.images].map(image => image.naturalWidth)")
            assert len(shown) >= 20
            assert min(shown) > 0
            page.screenshot(tmp_path / f"{width}.png")
        assert page.run("document.querySelectorAll('script').length") == 0
        assert not page.errors
