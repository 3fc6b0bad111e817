"""The page of the service in headless Chromium, at two widths, on the fake bundle."""

import pytest
from PIL import Image

from grefine_rt.assess.domain import Domain, Membership
from tests.support import fake_bundle
from tests.support import generator_files as made
from tests.support.chromium import PROGRAM, chromium
from tests.support.service import PROMPT, ROWS, serving

pytestmark = [pytest.mark.slow, pytest.mark.skipif(PROGRAM is None, reason="Chromium is not installed")]

TEXT = f"{PROMPT}\nNegative prompt: fog\nSteps: 20, Sampler: Euler, CFG scale: 7, Seed: 42, Size: 128x128"


@pytest.mark.parametrize("width", [1400, 390])
def test_a_picture_is_dropped_refined_compared_and_drawn_on(tmp_path, width):
    path = tmp_path / "scene.png"
    path.write_bytes(made.png({"parameters": TEXT}, Image.fromarray(fake_bundle.scene(ROWS))))
    with serving() as client, chromium(tmp_path / "profile") as page:
        page.size(width, 844, mobile=width < 500)
        page.open(f"http://127.0.0.1:{client.port}/")
        page.choose_file("#file", path)
        page.wait("document.getElementById('source').textContent")
        assert page.run("document.getElementById('prompt').value") == PROMPT
        assert page.run("document.getElementById('negative').value") == "fog"
        page.run("document.getElementById('refine').click()")
        page.wait("!document.getElementById('found').hidden")
        page.wait("document.getElementById('after').naturalWidth === 128")
        assert page.run("document.getElementById('download').download") == "scene.refined.png"
        assert page.run("document.querySelectorAll('#scores tr').length") >= 2
        assert page.run("document.getElementById('reasons').children.length") > 0
        for name in ("perceptual", "alignment", "mask"):
            page.run(f"document.querySelector('[data-show={name}]').click()")
            page.wait("document.getElementById('map').naturalWidth === 128")
        assert page.run("document.documentElement.scrollWidth") <= width

        # What is drawn is sent as a mask of the picture's pixels, and nothing beyond it changes.
        page.run("document.querySelector('input[value=mask]').click()")
        page.run("document.getElementById('paint').scrollIntoView()")
        left, top, wide, high = page.run(
            "(box => [box.left, box.top, box.width, box.height])"
            "(document.getElementById('paint').getBoundingClientRect())"
        )
        page.drag([(left + wide * share, top + high * 0.75) for share in (0.1, 0.2, 0.3, 0.4)])
        page.run("document.getElementById('refine').click()")
        page.wait("!document.getElementById('found').hidden")
        changed = page.run(CHANGED)
        assert changed["inside"] > 0
        assert changed["outside"] == 0
        assert not page.errors


def test_words_typed_while_the_prompt_is_read_stay(tmp_path):
    path = tmp_path / "scene.png"
    path.write_bytes(made.png({"parameters": TEXT}, Image.fromarray(fake_bundle.scene(ROWS))))
    with serving() as client, chromium(tmp_path / "profile") as page:
        page.open(f"http://127.0.0.1:{client.port}/")
        page.run(
            "globalThis.first = new Promise((go) => { globalThis.go = go; });"
            "globalThis.plain = fetch;"
            "fetch = async (...given) => { await first; return plain(...given); }; 0"
        )
        page.choose_file("#file", path)
        page.wait("!document.getElementById('refine').disabled")
        page.run("document.getElementById('prompt').value = 'a tree'")
        page.run("go()")
        page.wait("document.getElementById('source').textContent")
        assert page.run("document.getElementById('prompt').value") == "a tree"
        assert page.run("document.getElementById('negative').value") == "fog"
        assert not page.errors


def test_a_picture_outside_the_domain_is_refined_once_the_switch_is_on(tmp_path, monkeypatch):
    monkeypatch.setattr(Domain, "membership", lambda self, *arguments: Membership("fake", False, 9.0, 2.0))
    path = tmp_path / "photograph.png"
    path.write_bytes(made.png({"parameters": TEXT}, Image.fromarray(fake_bundle.scene(ROWS))))
    with serving() as client, chromium(tmp_path / "profile") as page:
        page.size(390, 844, mobile=True)
        page.open(f"http://127.0.0.1:{client.port}/")
        page.choose_file("#file", path)
        page.wait("document.getElementById('source').textContent")
        page.run("document.getElementById('refine').click()")
        page.wait("document.getElementById('status').classList.contains('bad')")
        assert page.run("document.getElementById('found').hidden")
        assert page.run("document.getElementById('more').open")
        assert page.run("document.documentElement.scrollWidth") <= 390
        page.run("document.getElementById('outside').click()")
        page.run("document.getElementById('refine').click()")
        page.wait("!document.getElementById('found').hidden")
        notes = page.run("[...document.getElementById('notes').children].map((note) => note.textContent)")
        assert any("not made for its kind" in note for note in notes)
        assert len(notes) == len(set(notes))


CHANGED = """
(async () => {
  const after = document.getElementById('after');
  await after.decode();
  const pixels = (image) => {
    const canvas = document.createElement('canvas');
    canvas.width = canvas.height = 128;
    const context = canvas.getContext('2d');
    context.drawImage(image, 0, 0);
    return context.getImageData(0, 0, 128, 128).data;
  };
  const before = pixels(document.getElementById('before')), result = pixels(after);
  const drawn = document.getElementById('paint').getContext('2d').getImageData(0, 0, 128, 128).data;
  const count = { inside: 0, outside: 0 };
  for (let i = 0; i < before.length; i += 4) {
    if (before[i] !== result[i] || before[i + 1] !== result[i + 1]) count[drawn[i + 3] ? 'inside' : 'outside']++;
  }
  return count;
})()
"""
