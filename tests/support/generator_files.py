"""One picture of each generator, its metadata in the layout that the generator publishes."""

import gzip
import io
import json
from collections.abc import Callable

import numpy as np
from PIL import ExifTags, Image
from PIL.PngImagePlugin import PngInfo

PROMPT, NEGATIVE = "a red house under a yellow sun", "fog"
INFOTEXT = (
    f"{PROMPT}\nNegative prompt: {NEGATIVE}\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 42, Size: 64x48"
)
GRAPH = {
    "3": {
        "class_type": "KSampler",
        "inputs": {"seed": 42, "positive": ["6", 0], "negative": ["7", 0], "latent_image": ["5", 0]},
    },
    "5": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 48}},
    "6": {"class_type": "CLIPTextEncode", "inputs": {"text": PROMPT, "clip": ["4", 1]}},
    "7": {"class_type": "CLIPTextEncode", "inputs": {"text": NEGATIVE, "clip": ["4", 1]}},
    "8": {"class_type": "VAEDecode", "inputs": {"samples": ["3", 0]}},
    "9": {"class_type": "SaveImage", "inputs": {"images": ["8", 0]}},
}
XMP = (
    '<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF '
    'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" '
    'xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:exif="http://ns.adobe.com/exif/1.0/" '
    'xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"><Iptc4xmpExt:DigitalSourceType>'
    "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia</Iptc4xmpExt:DigitalSourceType>"
    '<dc:description><rdf:Alt><rdf:li xml:lang="x-default">{}</rdf:li></rdf:Alt></dc:description>'
    '</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
)


def picture(size: tuple[int, int] = (64, 48)) -> Image.Image:
    """A smooth picture, so that lossy formats keep it nearly."""
    width, height = size
    y, x = np.mgrid[0:height, 0:width]
    return Image.fromarray(
        np.stack([x * 255 // width, y * 255 // height, (x + y) % 256], -1).astype(np.uint8)
    )


def png(texts: dict[str, str], image: Image.Image | None = None, **options) -> bytes:
    info = PngInfo()
    for key, text in texts.items():
        (info.add_text if text.isascii() else info.add_itxt)(key, text)
    buffer = io.BytesIO()
    (image or picture()).save(buffer, "PNG", pnginfo=info, **options)
    return buffer.getvalue()


def comment_exif(text: str, order: str = "utf-16-be") -> bytes:
    exif = Image.Exif()
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment] = b"UNICODE\0" + text.encode(order)
    exif[ExifTags.IFD.Exif] = exif.get_ifd(ExifTags.IFD.Exif)
    return exif.tobytes()


def saved(form: str, image: Image.Image | None = None, **options) -> bytes:
    buffer = io.BytesIO()
    (image or picture()).save(buffer, form, **options)
    return buffer.getvalue()


def swarm() -> str:
    return json.dumps({"sui_image_params": {"prompt": PROMPT, "negativeprompt": NEGATIVE, "seed": 42}})


def fooocus() -> str:
    return json.dumps(
        {
            "prompt": PROMPT,
            "negative_prompt": NEGATIVE,
            "seed": "42",
            "version": "Fooocus v2.5.0",
            "base_model": "x",
        }
    )


def hidden(
    text: str, alpha: bool = True, compressed: bool = True, image: Image.Image | None = None
) -> Image.Image:
    """A picture with text in its lowest bits, bit by bit as the published scripts write it."""
    image = (image or picture((128, 96))).convert("RGBA" if alpha else "RGB")
    data = gzip.compress(text.encode()) if compressed else text.encode()
    signature = f"stealth_{'png' if alpha else 'rgb'}{'comp' if compressed else 'info'}".encode()
    stream = "".join(f"{byte:08b}" for byte in (*signature, *(8 * len(data)).to_bytes(4, "big"), *data))
    bits = iter(stream)
    for x in range(image.width):
        for y in range(image.height):
            pixel = list(image.getpixel((x, y)))
            for channel in (3,) if alpha else (0, 1, 2):
                bit = next(bits, None)
                if bit is not None:
                    pixel[channel] = pixel[channel] & ~1 | int(bit)
            image.putpixel((x, y), tuple(pixel))
    assert next(bits, None) is None, "the picture is too small for its text"
    return image


def novelai_texts() -> str:
    comment = json.dumps({"prompt": PROMPT, "uc": NEGATIVE, "seed": 42})
    return json.dumps(
        {"Description": PROMPT, "Software": "NovelAI", "Source": "NovelAI Diffusion V4", "Comment": comment}
    )


HIDDEN: dict[str, Callable[[], bytes]] = {
    "novelai-hidden.png": lambda: png({}, hidden(novelai_texts())),
    "novelai-hidden.webp": lambda: saved("WEBP", hidden(novelai_texts()), lossless=True, exact=True),
    "webui-hidden.png": lambda: png({}, hidden(INFOTEXT)),
    "webui-hidden-plain.png": lambda: png({}, hidden(INFOTEXT, compressed=False)),
    "webui-hidden-rgb.png": lambda: png({}, hidden(INFOTEXT, alpha=False)),
    "webui-hidden-rgb-plain.png": lambda: png({}, hidden(INFOTEXT, alpha=False, compressed=False)),
}
"""Pictures that carry their texts in the lowest bits of their pixels."""

FILES: dict[str, Callable[[], bytes]] = {
    "automatic1111.png": lambda: png({"parameters": INFOTEXT}),
    "forge.jpg": lambda: saved("JPEG", exif=comment_exif(INFOTEXT)),
    "sdnext.webp": lambda: saved("WEBP", exif=comment_exif(INFOTEXT, "utf-16-le")),
    "swarmui.png": lambda: png({"parameters": swarm()}),
    "swarmui.jpg": lambda: saved("JPEG", exif=comment_exif(swarm())),
    "comfyui.png": lambda: png(
        {"prompt": json.dumps(GRAPH), "workflow": json.dumps({"nodes": [], "links": []})}
    ),
    "comfyui.webp": lambda: saved("WEBP", exif=exif_of({ExifTags.Base.Model: "prompt:" + json.dumps(GRAPH)})),
    "invokeai3.png": lambda: png(
        {
            "invokeai_metadata": json.dumps(
                {"positive_prompt": PROMPT, "negative_prompt": NEGATIVE, "seed": 42}
            )
        }
    ),
    "invokeai2.png": lambda: png(
        {
            "Dream": f'"{PROMPT} [{NEGATIVE}]" -s 50 -S 42 -W 64',
            "sd-metadata": json.dumps(
                {"image": {"prompt": [{"prompt": f"{PROMPT} [{NEGATIVE}]"}], "seed": 42}}
            ),
        }
    ),
    "invokeai1.png": lambda: png({"Dream": f'"{PROMPT} [{NEGATIVE}]" -s 50 -S 42 -W 64'}),
    "fooocus.png": lambda: png({"parameters": fooocus(), "fooocus_scheme": "fooocus"}),
    "fooocus.webp": lambda: saved("WEBP", exif=comment_exif(fooocus())),
    "novelai.png": lambda: png(
        {
            "Title": "AI generated image",
            "Description": PROMPT,
            "Software": "NovelAI",
            "Comment": json.dumps({"prompt": PROMPT, "uc": NEGATIVE, "seed": 42}),
        }
    ),
    "easydiffusion.png": lambda: png({"prompt": PROMPT, "negative_prompt": NEGATIVE, "seed": "42"}),
    "described.jpg": lambda: saved("JPEG", xmp=XMP.format(PROMPT).encode()),
    "described.tif": lambda: saved("TIFF", tiffinfo={700: XMP.format(PROMPT).encode()}),
    "midjourney.png": lambda: png({"Description": f"{PROMPT} --ar 4:3 --no {NEGATIVE} --v 6 Job ID: 1-2-3"}),
}


def exif_of(tags: dict[int, str]) -> bytes:
    exif = Image.Exif()
    for tag, text in tags.items():
        exif[tag] = text
    return exif.tobytes()
