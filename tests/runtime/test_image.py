import io
import os
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageCms

from grefine_rt.errors import ImageError, OptionError, OutputError
from grefine_rt.imaging import encode
from grefine_rt.imaging import image as im

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def scene(height=24, width=40, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def encoded(image, form="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def huge_png(width, height):
    """A PNG of a few bytes that claims to be enormous."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b""))
        + chunk(b"IEND", b"")
    )


def fails(source, *words, **options):
    with pytest.raises(ImageError) as caught:
        im.load(source, **options)
    text = str(caught.value)
    assert "\n" not in text
    assert text.endswith(".")
    for word in words:
        assert word in text
    return text


# Reading


def test_the_same_picture_from_every_kind_of_source(tmp_path):
    rgb = scene()
    image = Image.fromarray(rgb)
    path = tmp_path / "scene.png"
    image.save(path)
    data = path.read_bytes()
    for source in (rgb, image, path, str(path), data, io.BytesIO(data)):
        picture = im.load(source)
        np.testing.assert_array_equal(picture.rgb, rgb)
        assert picture.size == (40, 24)
        assert picture.alpha is None
        assert picture.notes == ()
        assert np.array_equal(picture.to_pil(), rgb)


def test_loading_copies_arrays():
    rgb = scene()
    picture = im.load(rgb)
    rgb[:] = 0
    assert picture.rgb.any()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_once(orientation):
    upright = np.zeros((20, 32, 3), np.uint8)
    upright[:10] = (250, 10, 10)
    upright[:10, :16] = (10, 10, 250)
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: np.rot90(upright, 2).transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = im.load(encoded(Image.fromarray(np.ascontiguousarray(stored)), exif=exif))
    np.testing.assert_array_equal(picture.rgb, upright)
    assert any("EXIF" in note for note in picture.notes) == (orientation != 1)
    # What is given back must not be turned a second time by a viewer.
    np.testing.assert_array_equal(im.load(encoded(picture.to_pil())).rgb, upright)


def test_grey_palette_and_black_and_white():
    grey = scene()[..., 0]
    for source in (grey, grey[..., None], Image.fromarray(grey), encoded(Image.fromarray(grey))):
        np.testing.assert_array_equal(im.load(source).rgb, np.repeat(grey[..., None], 3, axis=2))
    palette = Image.fromarray(scene()).quantize(16)
    picture = im.load(encoded(palette))
    np.testing.assert_array_equal(picture.rgb, palette.convert("RGB"))
    assert "palette" in picture.notes[0]
    bits = Image.fromarray(grey).convert("1")
    assert set(np.unique(im.load(encoded(bits)).rgb)) == {0, 255}


def png_of_sixteen_bits(colours):
    """The bytes of a PNG of uint16 (H, W, 3), which Pillow reads and does not write."""

    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    height, width, _ = colours.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in colours)
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def test_colours_of_sixteen_bits_are_noted():
    picture = im.load(png_of_sixteen_bits(scene().astype(np.uint16) * 257))
    np.testing.assert_array_equal(picture.rgb, scene())
    assert picture.notes == ("Converted from RGB of 16 bits to RGB of 8 bits.",)
    assert im.load(encoded(Image.fromarray(scene()))).notes == ()


def test_sixteen_bits_are_scaled():
    deep = np.linspace(0, 65535, 32 * 32).reshape(32, 32).astype(np.uint16)
    expected = np.rint(deep / 257).astype(np.uint8)
    for source in (deep, Image.fromarray(deep), encoded(Image.fromarray(deep))):
        picture = im.load(source)
        np.testing.assert_array_equal(picture.rgb, np.repeat(expected[..., None], 3, axis=2))
    tiff = encoded(Image.fromarray(deep.astype(">u2")), "TIFF")
    np.testing.assert_array_equal(im.load(tiff).rgb[..., 0], expected)
    np.testing.assert_array_equal(im.load(Image.fromarray(deep.astype(np.int32))).rgb[..., 0], expected)
    np.testing.assert_array_equal(im.load((scene() * np.uint16(257)).astype(np.uint16)).rgb, scene())


def test_floats_lie_in_zero_to_one():
    rgb = scene()
    np.testing.assert_array_equal(im.load(rgb / 255).rgb, rgb)
    np.testing.assert_array_equal(im.load((rgb / 255).astype(np.float32)).rgb, rgb)
    fails(rgb.astype(float), "[0, 1]")
    fails(np.full((20, 20), np.nan), "[0, 1]")
    fails(rgb.astype(np.int64), "int64")
    fails(Image.fromarray(np.full((20, 20), 70000, np.int32)), "0..65535")


def test_cmyk_is_converted_and_its_profile_dropped():
    flat = Image.new("CMYK", (32, 32), (0, 255, 255, 0))
    picture = im.load(encoded(flat, "JPEG", quality=95, icc_profile=b"\0" * 16 + b"CMYK" + b"\0" * 108))
    assert np.abs(picture.rgb.reshape(-1, 3).mean(0) - (255, 0, 0)).max() < 4
    assert picture.icc_profile is None
    assert "CMYK" in picture.notes[0]


def test_alpha_is_kept_and_given_back_unchanged(tmp_path):
    rgba = np.dstack([scene(), scene(seed=1)[..., 0]])
    rgba[:5, :, 3] = 0
    picture = im.load(encoded(Image.fromarray(rgba)))
    assert (picture.rgb[:5] == 255).all()
    np.testing.assert_array_equal(picture.rgb[rgba[..., 3] > 0], rgba[..., :3][rgba[..., 3] > 0])
    out, _ = encode.save(picture.to_pil(), tmp_path / "out.png")
    np.testing.assert_array_equal(np.asarray(Image.open(out)), rgba)
    # A changed picture: the change shows where there is something to see, and only there.
    changed = np.asarray(picture.to_pil(255 - picture.rgb))
    np.testing.assert_array_equal(changed[..., 3], rgba[..., 3])
    seen = rgba[..., 3] > 0
    np.testing.assert_array_equal(changed[..., :3][seen], 255 - rgba[..., :3][seen])
    np.testing.assert_array_equal(changed[..., :3][~seen], rgba[..., :3][~seen])


def test_other_transparencies():
    grey_alpha = np.dstack([scene()[..., 0], scene(seed=1)[..., 0]])
    for source in (grey_alpha, encoded(Image.fromarray(grey_alpha))):
        np.testing.assert_array_equal(im.load(source).alpha, grey_alpha[..., 1])
    palette = Image.fromarray(np.tile(np.arange(32, dtype=np.uint8) % 4, (32, 1))).convert("P")
    picture = im.load(encoded(palette, transparency=2))
    assert (picture.alpha[:, 2] == 0).all()
    assert (picture.alpha[:, 1] == 255).all()
    opaque = np.dstack([scene(), np.full((24, 40), 255, np.uint8)])
    assert im.load(opaque).alpha is None


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG"])
def test_animations_give_their_first_frame(form):
    frames = [Image.new("RGB", (32, 24), colour) for colour in ((200, 0, 0), (0, 200, 0), (0, 0, 200))]
    options = {"lossless": True} if form == "WEBP" else {}
    data = encoded(frames[0], form, save_all=True, append_images=frames[1:], **options)
    picture = im.load(data)
    assert (picture.rgb == (200, 0, 0)).all()
    assert "frame 1 of 3" in picture.notes[0]


def test_the_colour_profile_is_kept(tmp_path):
    image = Image.fromarray(scene())
    for form, suffix in (("PNG", ".png"), ("JPEG", ".jpg"), ("WEBP", ".webp"), ("TIFF", ".tif")):
        picture = im.load(encoded(image, form, icc_profile=SRGB))
        assert picture.icc_profile == SRGB
        out, _ = encode.save(picture.to_pil(picture.rgb), tmp_path / f"out{suffix}")
        assert Image.open(out).info["icc_profile"] == SRGB


# Bad input


def test_bad_files_are_named_in_one_sentence(tmp_path):
    fails(tmp_path / "none.png", "none.png", "no image")
    fails(tmp_path, "folder")
    empty = tmp_path / "empty.png"
    empty.touch()
    fails(empty, "empty.png", "is empty")
    text = tmp_path / "text.png"
    text.write_text("not a picture at all")
    fails(text, "text.png", "not an image")
    fails(tmp_path / ("x" * 300), "cannot be opened")
    fails("nul\0byte.png", "cannot be opened")
    fails(b"", "empty")
    fails(b"abc", "not an image")
    fails(None, "NoneType")
    fails(7, "int")


@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP"])
def test_truncated_files_are_named(form, tmp_path):
    data = encoded(Image.fromarray(scene(64, 64)), form)
    for part in (0.3, 0.6, 0.9):
        path = tmp_path / f"half.{form.lower()}"
        path.write_bytes(data[: int(len(data) * part)])
        fails(path, path.name)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@given(st.binary(max_size=200), st.sampled_from(["PNG", "JPEG", "GIF", "WEBP", "TIFF"]), st.integers(0, 400))
def test_damaged_bytes_give_a_picture_or_an_image_error(noise, form, position):
    data = bytearray(encoded(Image.fromarray(scene(20, 20)), form))
    data[position : position + len(noise)] = noise
    try:
        assert im.load(bytes(data)).rgb.dtype == np.uint8
    except ImageError:
        fails(bytes(data))


@pytest.mark.filterwarnings("error")
def test_sizes_beyond_the_limits():
    fails(np.zeros((1, 1, 3), np.uint8), "1 x 1")
    fails(encoded(Image.new("RGB", (1, 1))), "1 x 1", "16 x 16")
    fails(np.zeros((15, 400, 3), np.uint8), "400 x 15")
    im.load(np.zeros((16, 16, 3), np.uint8))
    fails(huge_png(20_000, 20_000), "100 million")
    fails(huge_png(10_000, 10_001), "100 million")
    fails(scene(), max_pixels=24 * 40 - 1)
    im.load(scene(), max_pixels=24 * 40)


def test_arrays_of_other_shapes():
    for shape in ((20,), (20, 20, 5), (20, 20, 0), (1, 20, 20, 3), (3, 20, 20), (0, 20, 3)):
        fails(np.zeros(shape, np.uint8))


def test_a_result_of_another_size_is_refused():
    with pytest.raises(ImageError, match="needs a result"):
        im.load(scene()).to_pil(scene(24, 41))


# Arithmetic


@given(st.integers(16, 6000), st.integers(16, 6000), st.integers(8, 128), st.sampled_from([8, 16, 32, 64]))
def test_work_size(width, height, cells, multiple):
    resolution = cells * 8
    if resolution < 4 * multiple:
        resolution = 4 * multiple
    w, h = im.work_size(width, height, resolution, multiple)
    assert w % multiple == 0
    assert h % multiple == 0
    assert min(w, h) >= multiple
    # Both sides are within half a multiple of the exact ones.
    aspect = min(max(width / height, 0.25), 4)
    if (w, h) != (width, height):
        assert abs(w - resolution * aspect**0.5) <= multiple / 2 + 1e-6
        assert abs(h - resolution / aspect**0.5) <= multiple / 2 + 1e-6
    assert abs(w * h / resolution**2 - 1) < 0.5
    assert im.work_size(w, h, resolution, multiple) == (w, h)
    assert im.work_size(height, width, resolution, multiple) == (h, w)


def test_work_size_of_known_pictures():
    assert im.work_size(128, 128, 128, 16) == (128, 128)
    assert im.work_size(4000, 4000, 128, 16) == (128, 128)
    assert im.work_size(1920, 1080, 1024, 64) == (1344, 768)
    assert im.work_size(1152, 896, 1024, 64) == (1152, 896)
    assert im.work_size(20000, 20, 128, 16) == (256, 64)
    assert im.work_size(1024, 16, 128, 16) == (256, 64)


@pytest.mark.parametrize("method", ["nearest", "area", "bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize("size", [(40, 24), (17, 9), (100, 70), (40, 30)])
def test_resize_agrees_with_pillow(method, size):
    # Low contrast: Pillow's uint8 path clips between its two passes, the float path does not.
    rgb = 96 + scene() // 4
    filters = {"area": "BOX"}
    resample = Image.Resampling[filters.get(method, method.upper())]
    expected = np.asarray(Image.fromarray(rgb).resize(size, resample)).astype(np.float32)
    found = im.resize(rgb.astype(np.float32), size, method)
    assert found.dtype == np.float32
    assert np.abs(np.clip(found, 0, 255) - expected).max() <= 1.5
    np.testing.assert_array_equal(im.resize(rgb[..., 1].astype(np.float32), size, method), found[..., 1])


def test_resize_of_the_same_size_is_a_copy():
    values = im.to_float(scene())
    same = im.resize(values, (40, 24))
    np.testing.assert_array_equal(same, values)
    assert not np.shares_memory(same, values)
    with pytest.raises(OptionError, match="cubic"):
        im.resize(values, (8, 8), "cubic")


def test_floats_and_back():
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    np.testing.assert_array_equal(im.to_uint8(im.to_float(levels)), levels)
    np.testing.assert_array_equal(im.to_uint8(np.float32([-0.2, 0.4999, 1.7])), [0, 127, 255])


def test_encoder_input_is_the_whole_picture():
    rgb = scene(30, 50)
    found = im.encoder_input(rgb, 16)
    assert found.shape == (1, 3, 16, 16)
    assert found.dtype == np.float32
    assert found.flags.c_contiguous
    expected = np.asarray(Image.fromarray(rgb).resize((16, 16), Image.Resampling.BICUBIC)) / 255
    np.testing.assert_allclose(found[0].transpose(1, 2, 0), expected, atol=1e-7)


# Writing


def test_lossless_formats_give_every_pixel_back(tmp_path):
    rgb = scene()
    for suffix in (".png", ".webp", ".tif", ".tiff", ".PNG"):
        out, _ = encode.save(Image.fromarray(rgb), tmp_path / f"out{suffix}")
        np.testing.assert_array_equal(Image.open(out).convert("RGB"), rgb)
    smooth = np.tile(np.linspace(0, 255, 64).astype(np.uint8)[:, None, None], (1, 64, 3))
    out, _ = encode.save(Image.fromarray(smooth), tmp_path / "out.jpg")
    assert np.abs(np.asarray(Image.open(out)).astype(int) - smooth).max() < 4


def cannot_save(path, *words, image=None, **options):
    with pytest.raises(OutputError) as caught:
        encode.save(image or Image.fromarray(scene()), path, **options)
    for word in words:
        assert word in str(caught.value)


def test_outputs_that_cannot_be_written(tmp_path):
    cannot_save(tmp_path / "out", "format", ".png")
    cannot_save(tmp_path / "out.xyz", "format")
    cannot_save(tmp_path / "no" / "out.png", "no folder")
    (tmp_path / "folder.png").mkdir()
    cannot_save(tmp_path / "folder.png", "is a folder")
    (tmp_path / "file").touch()
    cannot_save(tmp_path / "file" / "out.png", "no folder")
    cannot_save(tmp_path / f"{'x' * 300}.png", "cannot be written")
    cannot_save(tmp_path / "nul\0byte.png", "cannot be written")
    cannot_save(tmp_path / "out.jpg", "transparency", image=Image.new("RGBA", (20, 20), (1, 2, 3, 40)))


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write anywhere")
def test_an_unwritable_folder(tmp_path):
    tmp_path.chmod(0o500)
    cannot_save(tmp_path / "out.png", "not writable")


def test_a_refused_folder_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)
    cannot_save(tmp_path / "out.png", "not writable")


def test_inputs_are_never_overwritten(tmp_path):
    source = tmp_path / "in.png"
    Image.fromarray(scene()).save(source)
    before = source.read_bytes()
    link = tmp_path / "link.png"
    link.symlink_to(source)
    hard = tmp_path / "hard.png"
    hard.hardlink_to(source)
    for path in (source, tmp_path / "." / "in.png", link, hard):
        cannot_save(path, "overwrite", not_over=[source])
    assert source.read_bytes() == before
    encode.save(Image.fromarray(scene()), tmp_path / "out.png", not_over=[source])
