"""What files say beside their pixels: read from real files, and given back."""

import io
import json
from zlib import crc32

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import ExifTags, Image, features

from grefine_rt.errors import GRefineError, ImageError, OptionError, OutputError
from grefine_rt.imaging import content_credentials, xmp_packet
from grefine_rt.imaging.encode import KEY, Encoding, encode, our_entry
from grefine_rt.imaging.image import Picture, load
from grefine_rt.imaging.prompts.read import read_prompt
from tests.support import generator_files as made

ENTRY = {"version": "1", "before": {"perceptual": 0.5}, "note": "<\"'&> ü"}


def again(picture: Picture, name: str, entry=ENTRY, **options) -> tuple[Picture, tuple[str, ...]]:
    data, notes = encode(picture.to_pil(), name, Encoding(**options), picture.metadata, entry)
    return load(data), notes


class TestPrompts:
    @pytest.mark.parametrize("name", made.FILES)
    def test_each_generator(self, name):
        found = read_prompt(load(made.FILES[name]()).metadata.fields())
        assert found.prompt == made.PROMPT
        if not name.startswith("described"):
            assert found.negative == made.NEGATIVE
        if not name.startswith(("described", "midjourney")):
            assert found.seed == 42

    @pytest.mark.parametrize("name", made.FILES)
    @pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "TIFF"])
    def test_in_whatever_format_the_result_is_written(self, name, form):
        picture = load(made.FILES[name]())
        result, notes = again(picture, form)
        found = read_prompt(result.metadata.fields())
        if found is None:
            assert form != "PNG"
            assert "no text chunks" in notes[0]
        else:
            assert found.prompt == made.PROMPT
        assert our_entry(result.metadata) == ENTRY

    def test_texts_behind_the_pixels(self):
        whole = made.png({"parameters": made.INFOTEXT})
        start = whole.index(b"tEXt") - 4
        end = start + 12 + int.from_bytes(whole[start : start + 4], "big")
        moved = whole[:start] + whole[end:-12] + whole[start:end] + whole[-12:]
        assert read_prompt(load(moved).metadata.fields()).prompt == made.PROMPT

    def test_a_picture_without_any(self):
        assert read_prompt(load(made.saved("PNG")).metadata.fields()) is None
        assert read_prompt(load(np.zeros((20, 20, 3), np.uint8)).metadata.fields()) is None


class TestKept:
    def test_a_png_keeps_every_text_in_order(self):
        texts = {
            "parameters": made.INFOTEXT,
            "Comment": "grün 家",
            "a": "",
            "XML:com.adobe.xmp": made.XMP.format("x y"),
        }
        picture = load(made.png(texts, dpi=(300, 300), icc_profile=srgb()))
        result, notes = again(picture, "PNG")
        assert result.metadata.texts[:-1] == picture.metadata.texts
        assert result.metadata.texts[-1][0] == KEY
        assert result.metadata.xmp == picture.metadata.xmp
        assert result.icc_profile == picture.icc_profile
        assert result.metadata.dpi == pytest.approx((300, 300), abs=0.1)
        assert notes == ()
        assert (result.rgb == picture.rgb).all()

    @pytest.mark.parametrize("form", ["JPEG", "WEBP", "PNG", "TIFF"])
    def test_exif_stays_and_is_upright(self, form):
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = 6
        exif[ExifTags.Base.Artist] = "someone"
        inner = {ExifTags.Base.UserComment: b"ASCII\0\0\0a red house"}
        exif[ExifTags.IFD.Exif] = inner
        picture = load(made.saved("JPEG", exif=exif.tobytes()))
        assert picture.size == (48, 64)
        result, _ = again(picture, form)
        assert result.size == (48, 64)
        block = Image.Exif()
        block.load(result.metadata.exif)
        assert block.get(ExifTags.Base.Artist) == "someone"
        assert block.get(ExifTags.Base.Orientation, 1) == 1
        assert "a red house" in result.metadata.fields().exif.values()
        if form != "TIFF":
            assert (
                block.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment]
                == inner[ExifTags.Base.UserComment]
            )

    def test_a_jpeg_keeps_its_iptc_and_comment(self):
        block = b"Photoshop 3.0\x008BIM\x04\x04\0\0\0\0\0\x0c\x1c\x02\x78\0\x07caption"
        extra = b"\xff\xed" + (len(block) + 2).to_bytes(2, "big") + block
        picture = load(made.saved("JPEG", extra=extra, comment=b"hello"))
        result, _ = again(picture, "JPEG")
        assert result.metadata.iptc == (block,)
        assert result.metadata.comment == b"hello"

    def test_an_entry_takes_the_place_of_an_older_one(self):
        for form in ("PNG", "JPEG"):
            once, _ = again(load(made.saved(form, made.picture())), form)
            twice, _ = again(once, form, {"version": "2"})
            assert our_entry(twice.metadata) == {"version": "2"}
            assert (str(twice.metadata.texts) + twice.metadata.xmp.decode()).count("version") == 1

    def test_no_thumbnail_of_the_old_picture(self):
        exif = Image.Exif()
        exif[ExifTags.Base.Artist] = "someone"
        thumb = made.saved("JPEG", made.picture((16, 16)))
        raw = exif.tobytes()
        # One more directory behind the first: a thumbnail, as cameras and editors write it.
        tiff = bytearray(raw[6:])
        order = "little" if tiff[:2] == b"II" else "big"
        first = int.from_bytes(tiff[4:8], order)
        count = int.from_bytes(tiff[first : first + 2], order)
        end = first + 2 + 12 * count
        tiff[end : end + 4] = len(tiff).to_bytes(4, order)
        start = len(tiff) + 2 + 24 + 4
        entries = [(513, start), (514, len(thumb))]
        tiff += (2).to_bytes(2, order)
        for tag, value in entries:
            tiff += (
                tag.to_bytes(2, order)
                + (4).to_bytes(2, order)
                + (1).to_bytes(4, order)
                + value.to_bytes(4, order)
            )
        tiff += (0).to_bytes(4, order) + thumb
        picture = load(made.saved("JPEG", exif=b"Exif\0\0" + bytes(tiff)))
        assert thumb[:40] not in picture.metadata.exif
        assert b"someone" in picture.metadata.exif

    def test_too_much_for_a_jpeg_is_said(self):
        picture = load(made.png({"parameters": "word " * 20_000}))
        result, notes = again(picture, "JPEG")
        assert any("64 KB of EXIF" in note for note in notes)
        assert our_entry(result.metadata) == ENTRY

    def test_texts_that_have_no_place_are_named(self):
        _, notes = again(load(made.png({"Title": "x", "Dream": '"y"'})), "JPEG")
        assert notes == ("This format has no text chunks, so these were left out: Dream, Title.",)


def srgb() -> bytes:
    from PIL import ImageCms

    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


class TestProvenance:
    def test_the_source_type_is_kept(self):
        picture = load(made.FILES["described.jpg"]())
        for form in ("JPEG", "PNG", "WEBP", "TIFF"):
            result, _ = again(picture, form)
            assert b"digitalsourcetype/trainedAlgorithmicMedia<" in result.metadata.xmp

    @pytest.mark.parametrize("name", ["described.jpg", "forge.jpg", "automatic1111.png"])
    def test_composite_where_the_user_asks(self, name):
        picture = load(made.FILES[name]())
        for form in ("JPEG", "PNG", "WEBP", "TIFF"):
            packet = again(picture, form, provenance="composite")[0].metadata.xmp
            assert packet.count(xmp_packet.COMPOSITE.encode()) == 1
            assert b"/trainedAlgorithmicMedia" not in packet

    def test_other_ways_to_write_the_source_type(self):
        for written in (
            'DigitalSourceType="{}"',
            'DigitalSourceType rdf:resource="{}"/',
            "Iptc4xmpExt:DigitalSourceType>\n {}<",
        ):
            text = written.format("http://cv.iptc.org/newscodes/digitalsourcetype/digitalArt")
            packet = f"<rdf:RDF>{text}</rdf:RDF>".encode()
            made_of = xmp_packet.with_entry(packet, None, composite=True).decode()
            assert written.format(xmp_packet.COMPOSITE) in made_of

    def test_a_packet_that_is_none_gives_a_new_one(self):
        for packet in (b"", b"\xff\xfe", b"<x/>"):
            assert xmp_packet.entry_of(xmp_packet.with_entry(packet, "x")) == "x"

    def test_a_prefix_of_another_name(self):
        packet = b'<r:RDF xmlns:r="http://www.w3.org/1999/02/22-rdf-syntax-ns#"></r:RDF>'
        assert b'<r:Description r:about="" xmlns:grefine' in xmp_packet.with_entry(packet, "rdf: x")

    @given(st.text(max_size=60), st.binary(max_size=60))
    def test_any_entry_comes_back(self, text, packet):
        entry = json.dumps({"a": text})
        assert xmp_packet.entry_of(xmp_packet.with_entry(packet, entry)) == entry


def with_manifest(form: str) -> bytes:
    data = made.saved(form)
    if form == "PNG":
        return (
            data[:33]
            + (4).to_bytes(4, "big")
            + b"caBXjumb"
            + crc32(b"caBXjumb").to_bytes(4, "big")
            + data[33:]
        )
    if form == "JPEG":
        body = b"JP\0\1\0\0\0\1\0\0\0\x40jumb\0\0\0\x30jumdc2pa"
        return data[:2] + b"\xff\xeb" + (len(body) + 2).to_bytes(2, "big") + body + data[2:]
    if form == "WEBP":
        return (
            data[:4]
            + (len(data) + 4).to_bytes(4, "little")
            + data[8:]
            + b"C2PA"
            + (4).to_bytes(4, "little")
            + b"jumb"
        )
    if form == "TIFF":
        return made.saved(form, tiffinfo={52545: b"jumb"})
    box = bytes.fromhex("d8fec3d61b0e483c92975828877ec481") + bytes(8)
    return data + (8 + len(box)).to_bytes(4, "big") + b"uuid" + box


FORMS = ["PNG", "JPEG", "WEBP", "TIFF", *(["AVIF"] if features.check("avif") else [])]


class TestContentCredentials:
    @pytest.mark.parametrize("form", FORMS)
    def test_a_manifest_that_the_change_invalidates_is_named(self, form):
        assert not load(made.saved(form)).metadata.credentials
        picture = load(with_manifest(form))
        assert picture.metadata.credentials
        result, notes = again(picture, form)
        assert "content credentials (C2PA)" in notes[0]
        assert not result.metadata.credentials

    @given(st.binary(max_size=200))
    def test_any_bytes(self, data):
        for head in (
            b"",
            b"\x89PNG\r\n\x1a\n",
            b"\xff\xd8",
            b"RIFF1234WEBP",
            b"\0\0\0\x10ftyp",
            b"II*\0",
            b"MM\0*",
        ):
            file = io.BytesIO(head + data)
            content_credentials.present(file)
            assert file.tell() == 0


class TestEncoding:
    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"format": "bmp"}, "'format' must be one of"),
            ({"format": 3}, "'format' must be one of"),
            ({"quality": 0}, "from 1 to 100"),
            ({"quality": True}, "from 1 to 100"),
            ({"quality": 90.0}, "from 1 to 100"),
            ({"provenance": "x"}, "'provenance' must be"),
        ],
    )
    def test_wrong_options(self, options, words):
        with pytest.raises(OptionError, match=words):
            Encoding(**options)

    def test_the_format(self, tmp_path):
        assert Encoding().of(tmp_path / "a.JPG", "PNG", False) == "JPEG"
        assert Encoding("webp").of(tmp_path / "a.png", "PNG", False) == "WEBP"
        assert Encoding().of(None, "JPEG", False) == "JPEG"
        assert Encoding().of(None, "GIF", True) == "PNG"
        with pytest.raises(OutputError, match="no known image format"):
            Encoding().of(tmp_path / "a.xyz", "PNG", False)
        with pytest.raises(OutputError, match="transparency"):
            Encoding().of(None, "JPEG", True)
        with pytest.raises(OptionError, match="lossless"):
            Encoding(quality=90).of(tmp_path / "a.png", "PNG", False)

    def test_quality_counts(self):
        picture = load(made.saved("PNG"))
        for form in [each for each in FORMS if each not in ("PNG", "TIFF")]:
            small, large = (len(encode(picture.to_pil(), form, Encoding(quality=q))[0]) for q in (10, 95))
            assert small < large

    @pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")
    def test_avif(self):
        result, _ = again(load(made.FILES["automatic1111.png"]()), "AVIF")
        assert read_prompt(result.metadata.fields()).prompt == made.PROMPT
        assert our_entry(result.metadata) == ENTRY


class TestReading:
    def test_formats_that_start_other_programs_are_not_read(self):
        eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n%%EndComments\n%%EOF\n"
        with pytest.raises(ImageError, match="not an image of a known format"):
            load(eps)

    @pytest.mark.parametrize(
        "form", ["GIF", "BMP", "PPM", "TGA", "ICO", "DIB", "DDS", "PCX", "QOI", "SGI", "JPEG2000"]
    )
    def test_other_formats(self, form):
        assert load(made.saved(form, **({"sizes": [(64, 48)]} if form == "ICO" else {}))).size == (64, 48)

    @given(st.data())
    def test_damaged_files(self, data):
        whole = bytearray(data.draw(st.sampled_from([make() for make in made.FILES.values()])))
        for _ in range(data.draw(st.integers(1, 4))):
            whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
        try:
            picture = load(bytes(whole[: data.draw(st.integers(len(whole) // 2, len(whole)))]))
        except GRefineError:
            return
        found = read_prompt(picture.metadata.fields())
        assert found is None or found.prompt
        if picture.alpha is None:
            for form in ("PNG", "JPEG"):
                encode(picture.to_pil(), form, Encoding(), picture.metadata, ENTRY)
