"""Prompts in the layouts that generators publish: text in, prompt out. Files are in test_prompt_files.py."""

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grefine_rt.imaging.prompts import comfyui, exif, infotext, invokeai, settings, xmp
from grefine_rt.imaging.prompts.found import MAX_FIELD, MAX_PROMPT, FoundPrompt
from grefine_rt.imaging.prompts.read import TextFields, read_prompt

INFOTEXT = (
    "a red house, (yellow sun:1.2), <lora:story:0.8>\nunder a blue sky\n"
    "Negative prompt: blurry, fog\nlow quality\n"
    "Steps: 20, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7, Seed: 965400086, Size: 512x768, "
    'Model hash: abc123, Model: v1-5, Lora hashes: "story: 0123", Version: v1.10.1'
)


def png(**fields: str) -> FoundPrompt | None:
    return read_prompt(TextFields(png={key.replace("__", "-"): value for key, value in fields.items()}))


def said(result: FoundPrompt | None) -> tuple[str, str, int | None]:
    assert result is not None
    return result.prompt, result.negative, result.seed


class TestInfotext:
    def test_lines_of_both_prompts_and_the_seed(self):
        result = png(parameters=INFOTEXT)
        assert said(result) == (
            "a red house, (yellow sun:1.2), <lora:story:0.8>\nunder a blue sky",
            "blurry, fog\nlow quality",
            965400086,
        )
        assert result.source == "PNG text 'parameters' (AUTOMATIC1111 layout)"

    def test_without_a_negative_prompt(self):
        assert said(infotext.read("a boat\nSteps: 4, Sampler: Euler, Seed: 1, Size: 64x64")) == (
            "a boat",
            "",
            1,
        )

    def test_settings_of_sd_next_are_separated_by_bars(self):
        text = (
            "a boat\nNegative prompt: fog\nSteps: 20| Size: 1024x1024| Sampler: UniPC| Seed: 77| App: SD.Next"
        )
        assert said(infotext.read(text)) == ("a boat", "fog", 77)

    def test_settings_that_do_not_begin_with_steps(self):
        text = "a boat\nSeed: 5, Steps: 20, Sampler: Euler, Model: x"
        assert said(infotext.read(text)) == ("a boat", "", 5)

    def test_templates_of_dynamic_prompts_are_no_phrases(self):
        text = "a boat\nNegative prompt: fog\nSteps: 2, Sampler: a, Seed: 3\nTemplate: a {boat|fish}\n"
        assert said(infotext.read(text)) == ("a boat", "fog", 3)
        text = "a boat\nTemplate: a {boat|fish}\nSteps: 2, Sampler: a, Seed: 3"
        assert said(infotext.read(text)) == ("a boat", "", 3)

    def test_a_plain_text_is_a_prompt_altogether(self):
        assert said(infotext.read("a red house\nand Steps: of stone")) == (
            "a red house\nand Steps: of stone",
            "",
            None,
        )
        assert not infotext.is_infotext("a red house, Size: huge")

    def test_nothing_but_settings_is_no_prompt(self):
        assert infotext.read("Steps: 20, Sampler: Euler, Seed: 1") is None
        assert infotext.read("\nNegative prompt: fog\nSteps: 20, Sampler: Euler, Seed: 1") is None

    @pytest.mark.parametrize(
        ("written", "stays"),
        [
            ("a [red:blue:0.5] house", "a blue house"),
            ("a [red::0.5] house", "a  house"),
            ("a house [with snow:10]", "a house with snow"),
            ("a [cat|dog|fish] runs", "a cat runs"),
            ("a [red] house", "a [red] house"),
            (r"a \[red:blue:0.5\] house", r"a \[red:blue:0.5\] house"),
            ("(red house:1.2) [x:y]", "(red house:1.2) [x:y]"),
        ],
    )
    def test_of_words_that_change_the_last_ones_stay(self, written, stays):
        assert infotext.last_drawn(written) == stays

    @pytest.mark.parametrize(
        "text", ["[" * 200_000, "[a:" * 60_000, "[a|" * 60_000, "Seed:" * 50_000, "+" * 200_000]
    )
    def test_long_rubbish_is_read_quickly(self, text):
        begin = time.process_time()
        read_prompt(
            TextFields(png={"parameters": text + "\nSteps: 1, Seed: 1, Size: 1x1", "Dream": f'"{text}" -S 1'})
        )
        assert time.process_time() - begin < 1


class TestFlatJson:
    def test_swarmui(self):
        data = {
            "sui_image_params": {
                "prompt": "a red house <lora:x:1><break>a sun <segment:face> a smiling face",
                "negativeprompt": "fog",
                "seed": 7,
                "swarm_version": "0.9.3",
            },
            "sui_extra_data": {"date": "2025-01-25"},
        }
        result = png(parameters=json.dumps(data))
        assert said(result) == ("a red house , a sun", "fog", 7)
        assert result.generator == "SwarmUI"

    def test_fooocus(self):
        data = {
            "prompt": "a red house",
            "negative_prompt": "fog",
            "full_prompt": ["cinematic still a red house . emotional", "a red house, intricate"],
            "seed": "123",
            "base_model": "juggernaut",
            "version": "Fooocus v2.5.0",
            "metadata_scheme": "fooocus",
        }
        result = png(parameters=json.dumps(data), fooocus_scheme="fooocus")
        assert said(result) == ("a red house", "fog", 123)
        assert result.generator == "Fooocus"
        del data["prompt"], data["negative_prompt"]
        assert said(settings.read(data))[0].startswith("cinematic still a red house")

    def test_fooocus_before_and_its_kin(self):
        old = {"Prompt": "a red house", "Negative Prompt": "fog", "Seed": 5, "Version": "Fooocus 2.1"}
        assert said(png(Comment=json.dumps(old))) == ("a red house", "fog", 5)
        ruined = {"Prompt": "a boat", "Negative": "fog", "Seed": 6, "software": "RuinedFooocus"}
        assert png(parameters=json.dumps(ruined)).generator == "RuinedFooocus"

    def test_novelai(self):
        comment = {"prompt": "{{red house}}, [sun], 1.3::boat ::", "uc": "{fog}", "seed": 42, "steps": 28}
        result = png(
            Software="NovelAI",
            Source="NovelAI Diffusion V3",
            Description="what stands there",
            Comment=json.dumps(comment),
        )
        assert said(result) == ("red house, [sun], boat", "fog", 42)

    def test_novelai_of_2022_says_its_prompt_in_the_description_alone(self):
        comment = json.dumps({"steps": 28, "uc": "fog", "seed": 42, "scale": 11})
        result = png(Software="NovelAI", Description="{red} house", Comment=comment)
        assert said(result) == ("red house", "fog", 42)
        assert result.source == "PNG text 'Description' (NovelAI)"

    def test_novelai_4_has_captions_of_characters(self):
        v4 = {
            "caption": {"base_caption": "a meadow", "char_captions": [{"char_caption": "a cat"}, {"x": 1}, 3]}
        }
        no = {"caption": {"base_caption": "fog", "char_captions": []}}
        comment = {"prompt": "a meadow", "uc": "fog", "v4_prompt": v4, "v4_negative_prompt": no, "seed": 1}
        assert said(png(Comment=json.dumps(comment))) == ("a meadow, a cat", "fog", 1)

    def test_easy_diffusion(self):
        assert said(png(prompt="a boat", negative_prompt="fog", seed="9")) == ("a boat", "fog", 9)
        assert said(png(**{"Prompt": "a boat", "Negative Prompt": "", "Seed": "9"})) == ("a boat", "", 9)
        data = {"prompt": "a boat", "negative_prompt": "fog", "seed": 9, "num_inference_steps": 25}
        result = read_prompt(TextFields(exif={"UserComment": json.dumps(data)}))
        assert said(result) == ("a boat", "fog", 9)
        assert result.source == "EXIF UserComment (Easy Diffusion)"

    def test_draw_things(self):
        data = {"c": "a boat", "uc": "fog", "seed": 4, "steps": 8}
        assert settings.read(data).generator == "Draw Things"


class TestInvokeAI:
    def test_version_3(self):
        data = {
            "positive_prompt": "a red house++ and a sun",
            "negative_prompt": "fog",
            "seed": 3,
            "app_version": "4",
        }
        assert said(png(invokeai_metadata=json.dumps(data))) == ("a red house and a sun", "fog", 3)

    @pytest.mark.parametrize("prompt", ["a boat [fog]", [{"prompt": "a boat [fog]", "weight": 1.0}]])
    def test_version_2(self, prompt):
        data = {"model": "stable diffusion", "image": {"prompt": prompt, "seed": 8}}
        assert said(png(sd__metadata=json.dumps(data))) == ("a boat", "fog", 8)

    def test_dream(self):
        assert said(png(Dream='"a \\"red\\" boat [fog]" -s 50 -S 3047 -W 512 -H 512 -C 7.5 -A k_lms')) == (
            'a "red" boat',
            "fog",
            3047,
        )


def node(kind, **inputs):
    return {"class_type": kind, "inputs": inputs}


BASIC = {
    "3": node(
        "KSampler",
        seed=5,
        steps=20,
        model=["4", 0],
        positive=["6", 0],
        negative=["7", 0],
        latent_image=["5", 0],
    ),
    "4": node("CheckpointLoaderSimple", ckpt_name="sd.safetensors"),
    "5": node("EmptyLatentImage", width=512, height=512),
    "6": node("CLIPTextEncode", text="a red house", clip=["4", 1]),
    "7": node("CLIPTextEncode", text="fog", clip=["4", 1]),
    "8": node("VAEDecode", samples=["3", 0], vae=["4", 2]),
    "9": node("SaveImage", images=["8", 0], filename_prefix="ComfyUI"),
}


class TestComfyUI:
    def test_basic(self):
        result = png(prompt=json.dumps(BASIC), workflow=json.dumps({"nodes": [], "links": []}))
        assert said(result) == ("a red house", "fog", 5)
        assert result.source == "PNG text 'prompt' (ComfyUI)"

    def test_not_a_number_is_in_many_files(self):
        text = json.dumps({**BASIC, "10": {**node("X"), "is_changed": [float("nan")]}})
        assert "NaN" in text
        assert said(png(prompt=text))[0] == "a red house"

    def test_a_text_that_reaches_no_sampler_is_not_the_prompt(self):
        graph = {"1": node("CLIPTextEncode", text="an old idea that is much longer", clip=["4", 1]), **BASIC}
        assert said(comfyui.read(graph))[0] == "a red house"

    def test_zeroed_conditioning_has_no_text(self):
        graph = {**BASIC, "7": node("ConditioningZeroOut", conditioning=["6", 0])}
        assert said(comfyui.read(graph)) == ("a red house", "", 5)

    def test_conditioning_nodes_are_walked_through(self):
        graph = {
            **BASIC,
            "3": node(
                "KSampler", seed=["20", 0], positive=["10", 0], negative=["10", 1], latent_image=["5", 0]
            ),
            "10": node(
                "ControlNetApplyAdvanced", positive=["11", 0], negative=["7", 0], control_net=["4", 0]
            ),
            "11": node("ConditioningCombine", conditioning_1=["6", 0], conditioning_2=["12", 0]),
            "12": node("ConditioningSetTimestepRange", conditioning=["13", 0], start=0.0, end=1.0),
            "13": node("CLIPTextEncode", text="a yellow sun", clip=["4", 1]),
            "20": node("PrimitiveInt", value=99),
        }
        assert said(comfyui.read(graph)) == ("a red house, a yellow sun", "fog", 99)

    def test_strings_are_made_by_other_nodes(self):
        graph = {
            **BASIC,
            "6": node("CLIPTextEncode", text=["30", 0], clip=["4", 1]),
            "30": node("StringConcatenate", string_a=["31", 0], string_b="under a sun", delimiter=" "),
            "31": node("StringReplace", string=["32", 0], find="blue", replace="red"),
            "32": node("PrimitiveStringMultiline", value="a blue house"),
        }
        assert said(comfyui.read(graph))[0] == "a red house under a sun"

    def test_populated_wildcards_reach_the_sampler(self):
        wild = node(
            "ImpactWildcardProcessor",
            wildcard_text="a {red|blue} house",
            populated_text="a blue house",
            seed=1,
        )
        graph = {**BASIC, "6": node("CLIPTextEncode", text=["30", 0], clip=["4", 1]), "30": wild}
        assert said(comfyui.read(graph))[0] == "a blue house"

    def test_a_switch_lets_one_text_through(self):
        switch = node("CR Text Input Switch", Input=2, text1=["31", 0], text2=["32", 0])
        graph = {
            **BASIC,
            "6": node("CLIPTextEncode", text=["30", 0], clip=["4", 1]),
            "30": switch,
            "31": node("Text Multiline", text="a boat"),
            "32": node("Text Multiline", text="a fish"),
        }
        assert said(comfyui.read(graph))[0] == "a fish"

    def test_sdxl_has_two_texts_and_flux_as_well(self):
        both = node(
            "CLIPTextEncodeSDXL", text_g="a red house", text_l="a red house", width=1024, clip=["4", 1]
        )
        assert said(comfyui.read({**BASIC, "6": both}))[0] == "a red house"
        flux = node(
            "CLIPTextEncodeFlux",
            clip_l="house, red",
            t5xxl="A red house stands.",
            guidance=3.5,
            clip=["4", 1],
        )
        assert said(comfyui.read({**BASIC, "6": flux}))[0] == "house, red, A red house stands."

    def test_flux_goes_through_a_guider(self):
        graph = {
            "5": node("SamplerCustomAdvanced", noise=["25", 0], guider=["22", 0], latent_image=["27", 0]),
            "6": node("CLIPTextEncode", text="a red house", clip=["11", 0]),
            "8": node("VAEDecode", samples=["5", 0], vae=["10", 0]),
            "9": node("SaveImage", images=["8", 0]),
            "22": node("BasicGuider", model=["12", 0], conditioning=["26", 0]),
            "25": node("RandomNoise", noise_seed=1234),
            "26": node("FluxGuidance", conditioning=["6", 0], guidance=3.5),
            "12": node("UNETLoader"),
            "10": node("VAELoader"),
            "11": node("DualCLIPLoader"),
            "27": node("EmptySD3LatentImage", width=64),
        }
        assert said(comfyui.read(graph)) == ("a red house", "", 1234)

    def test_of_two_samplers_the_first_one_drew_the_picture(self):
        graph = {
            **BASIC,
            "8": node("VAEDecode", samples=["40", 0], vae=["4", 2]),
            "40": node("KSampler", seed=6, positive=["41", 0], negative=["7", 0], latent_image=["42", 0]),
            "41": node("CLIPTextEncode", text="fine details", clip=["4", 1]),
            "42": node("LatentUpscale", samples=["3", 0]),
        }
        assert said(comfyui.read(graph)) == ("a red house", "fog", 5)

    def test_a_detailer_is_not_what_drew_the_picture(self):
        graph = {
            **BASIC,
            "9": node("SaveImage", images=["50", 0]),
            "50": node("FaceDetailer", image=["8", 0], positive=["51", 0], negative=["7", 0], seed=1),
            "51": node("CLIPTextEncode", text="a face", clip=["4", 1]),
        }
        assert said(comfyui.read(graph))[0] == "a red house"

    def test_loaders_that_take_both_texts(self):
        graph = {
            "1": node("Efficient Loader", positive="a red house", negative="fog", ckpt_name="x"),
            "2": node("KSampler (Efficient)", seed=3, model=["1", 0], positive=["1", 1], negative=["1", 2]),
            "3": node("SaveImage", images=["2", 5]),
        }
        assert said(comfyui.read(graph)) == ("a red house", "fog", 3)
        piped = {
            "1": node("easy fullLoader", positive=["4", 0], negative="fog", ckpt_name="x"),
            "2": node("easy kSampler", seed=3, pipe=["1", 0]),
            "3": node("SaveImage", images=["2", 1]),
            "4": node("easy positive", positive="a red house"),
        }
        assert said(comfyui.read(piped))[:2] == ("a red house", "fog")

    def test_nodes_that_ask_a_service(self):
        graph = {
            "1": node("FluxProUltraImageNode", prompt="a red house", prompt_upsampling=False, seed=4),
            "2": node("SaveImage", images=["1", 0]),
        }
        assert said(comfyui.read(graph)) == ("a red house", "", 4)

    def test_a_text_that_a_model_writes_is_in_no_field(self):
        graph = {
            **BASIC,
            "6": node("CLIPTextEncode", text=["60", 0], clip=["4", 1]),
            "60": node("Florence2Run", text_input="describe this", image=["8", 0]),
        }
        assert comfyui.read(graph) is None

    def test_rings_and_wide_graphs_end(self):
        ring = {
            "1": node("KSampler", positive=["2", 0], negative=["2", 0]),
            "2": node("ConditioningCombine", conditioning_1=["3", 0], conditioning_2=["2", 0]),
            "3": node("ConditioningCombine", conditioning_1=["2", 0], conditioning_2=["3", 0]),
            "9": node("SaveImage", images=["1", 0]),
        }
        assert comfyui.read(ring) is None
        wide = {
            str(i): node(
                "StringConcatenate", string_a=[str(i + 1), 0], string_b=[str(i + 1), 0], delimiter=""
            )
            for i in range(100, 160)
        }
        graph = {**BASIC, "6": node("CLIPTextEncode", text=["100", 0]), **wide, "160": node("Text", text="x")}
        begin = time.process_time()
        comfyui.read(graph)
        assert time.process_time() - begin < 1

    def test_a_workflow_where_there_is_no_prompt(self):
        workflow = {
            "nodes": [
                {"id": 1, "type": "CheckpointLoaderSimple", "widgets_values": ["x"], "inputs": []},
                {
                    "id": 2,
                    "type": "CLIPTextEncode",
                    "inputs": [{"name": "clip", "link": 1}],
                    "widgets_values": ["a boat"],
                },
                {
                    "id": 3,
                    "type": "CLIPTextEncode",
                    "inputs": [{"name": "clip", "link": 2}],
                    "widgets_values": ["fog"],
                },
                {"id": 6, "type": "Reroute", "inputs": [{"name": "", "link": 3}], "widgets_values": None},
                {
                    "id": 4,
                    "type": "KSampler",
                    "inputs": [
                        {"name": "model", "link": 9},
                        {"name": "positive", "link": 5},
                        {"name": "negative", "link": 4},
                    ],
                    "widgets_values": [77, "randomize", 20, 7, "euler", "normal", 1],
                },
                {
                    "id": 5,
                    "type": "SaveImage",
                    "inputs": [{"name": "images", "link": 6}],
                    "widgets_values": ["C"],
                },
                {
                    "id": 8,
                    "type": "KSampler",
                    "mode": 2,
                    "inputs": [{"name": "positive", "link": 4}],
                    "widgets_values": [],
                },
            ],
            "links": [
                [1, 1, 1, 2, 0, "CLIP"],
                [2, 1, 1, 3, 0, "CLIP"],
                [3, 2, 0, 6, 0, "CONDITIONING"],
                [4, 3, 0, 4, 2, "CONDITIONING"],
                [5, 6, 0, 4, 1, "CONDITIONING"],
                [6, 4, 0, 5, 0, "IMAGE"],
                [9, 1, 0, 4, 0, "MODEL"],
            ],
        }
        result = png(workflow=json.dumps(workflow))
        assert said(result) == ("a boat", "fog", 77)
        assert result.source == "PNG text 'workflow' (ComfyUI)"
        inside = {
            "nodes": [{"id": 1, "type": "5f-uuid"}],
            "links": [],
            "definitions": {"subgraphs": [workflow]},
        }
        assert said(comfyui.read_workflow(inside))[0] == "a boat"

    def test_exif_of_animations(self):
        result = read_prompt(TextFields(exif={"Model": "prompt:" + json.dumps(BASIC), "Make": "workflow:{}"}))
        assert said(result)[0] == "a red house"
        assert result.source == "EXIF Model (ComfyUI)"


class TestExif:
    @pytest.mark.parametrize("text", ["a red house", "ein grünes Haus ß", "日本の赤い家", "a 家"])
    def test_codes_and_byte_orders(self, text):
        for big in (True, False):
            order = "utf-16-be" if big else "utf-16-le"
            assert exif.user_comment(b"UNICODE\0" + text.encode(order), big) == text
        assert exif.user_comment(b"UNICODE\0" + text.encode("utf-16"), True) == text
        assert exif.user_comment(b"\0" * 8 + text.encode(), True) == text
        assert exif.user_comment(b"ASCII\0\0\0" + text.encode(), True) == text

    def test_the_order_that_reads_better_counts(self):
        body = INFOTEXT.encode("utf-16-be")
        assert exif.user_comment(b"UNICODE\0" + body, big_endian=False) == INFOTEXT
        assert exif.user_comment(b"UNICODE\0" + INFOTEXT.encode("utf-16-le"), big_endian=True) == INFOTEXT

    def test_ascii_under_a_wrong_name(self):
        assert exif.user_comment(b"UNICODE\0a red house, a sun", True) == "a red house, a sun"

    def test_utf_8_in_a_field_of_ascii(self):
        assert exif.exif_text("grünes Haus".encode().decode("latin-1")) == "grünes Haus"
        assert exif.exif_text("gr\xfcn") == "grün"
        assert exif.exif_text(7) == ""

    @given(st.binary(max_size=80), st.booleans())
    def test_any_bytes_give_a_text(self, value, big):
        for head in (b"", b"UNICODE\0", b"JIS\0\0\0\0\0", b"ASCII\0\0\0"):
            assert isinstance(exif.user_comment(head + value, big), str)


PACKET = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">
<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about=""
 xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:exif="http://ns.adobe.com/exif/1.0/">
<{field}><rdf:Alt><rdf:li xml:lang="x-default">{text}</rdf:li></rdf:Alt></{field}>
</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="w"?>"""


class TestXmp:
    def test_a_description(self):
        packet = PACKET.format(field="dc:description", text="a red house &amp; a sun").encode()
        result = read_prompt(TextFields(xmp=packet))
        assert said(result) == ("a red house & a sun", "", None)
        assert result.source == "XMP dc:description"

    def test_draw_things(self):
        text = json.dumps({"c": "a boat", "uc": "fog", "seed": 4}).replace('"', "&quot;")
        result = read_prompt(TextFields(xmp=PACKET.format(field="exif:UserComment", text=text).encode()))
        assert said(result) == ("a boat", "fog", 4)
        assert result.source == "XMP exif:UserComment (Draw Things)"

    def test_an_attribute(self):
        packet = PACKET.format(field="dc:title", text="x").replace(
            'rdf:about=""', 'rdf:about="" dc:description="a red house"'
        )
        assert xmp.texts(packet.encode()) == {"XMP dc:description": "a red house"}

    def test_entities_are_refused_and_depth_is_bounded(self):
        bomb = b'<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]><x>&b;</x>'
        assert xmp.texts(bomb) == {}
        assert xmp.texts(b"<a>" * 100_000) == {}

    def test_a_packet_that_breaks_off(self):
        packet = PACKET.format(field="dc:description", text="a red house").encode()
        assert xmp.texts(packet[:-60]) == {"XMP dc:description": "a red house"}

    @given(st.binary(max_size=300))
    def test_any_bytes(self, packet):
        assert isinstance(xmp.texts(packet), dict)


class TestDescriptions:
    def test_midjourney(self):
        text = "a red house, yellow sun --ar 3:2 --no fog, rain --v 6 Job ID: 123e4567-e89b-12d3-a456-426614174000"
        result = png(Description=text, Author="someone")
        assert said(result) == ("a red house, yellow sun", "fog, rain", None)
        assert result.generator == "Midjourney"

    @pytest.mark.parametrize(
        "text",
        [
            "OLYMPUS DIGITAL CAMERA",
            "Screenshot",
            "Created with GIMP",
            "house",
            "",
            "  ",
            "https://example.org/a b",
            "{]",
            "1 2 3",
        ],
    )
    def test_marks_of_cameras_and_editors_are_no_prompts(self, text):
        assert png(Description=text) is None
        assert read_prompt(TextFields(exif={"UserComment": text, "ImageDescription": text})) is None

    def test_scripts_without_blanks(self):
        assert png(Description="赤い家").prompt == "赤い家"


class TestOrder:
    def test_the_plainest_field_first(self):
        graph = json.dumps(BASIC)
        fields = {
            "parameters": "a boat\nSteps: 1, Seed: 1, Size: 8x8",
            "invokeai_metadata": json.dumps({"positive_prompt": "a cat"}),
            "Comment": json.dumps({"prompt": "a fish", "uc": ""}),
            "prompt": graph,
        }
        exif_fields = {"UserComment": "a tree\nSteps: 1, Seed: 1, Size: 8x8"}
        packet = PACKET.format(field="dc:description", text="a yellow flower").encode()
        wanted = ["a boat", "a cat", "a fish", "a red house"]
        for prompt in wanted:
            assert read_prompt(TextFields(fields, exif_fields, packet)).prompt == prompt
            fields.pop(next(iter(fields)))
        assert (
            read_prompt(TextFields({"Description": "a car drives"}, exif_fields, packet)).prompt == "a tree"
        )
        assert (
            read_prompt(TextFields({"Description": "a car drives"}, {}, packet)).prompt == "a yellow flower"
        )
        assert read_prompt(TextFields()) is None

    def test_a_field_without_a_prompt_is_passed_over(self):
        broken = {
            "parameters": '{"sui_image_params": 3}',
            "prompt": '{"1": {"class_type"',
            "workflow": json.dumps([1]),
        }
        assert png(**broken, Description="a red house").prompt == "a red house"


class TestBounds:
    def test_long_prompts_are_cut_and_long_fields_passed_over(self):
        assert len(png(parameters="word " * 50_000).prompt) <= MAX_PROMPT
        assert png(parameters="a" * (MAX_FIELD + 1)) is None

    def test_depth_and_numbers_of_json(self):
        assert png(parameters='{"a":' * 100_000) is None
        assert png(prompt='{"a":' + "[" * 100_000 + "]" * 100_000 + "}") is None
        assert png(parameters='{"sui_image_params": {"prompt": "a boat", "seed": 1e999}}').seed is None
        assert (
            png(parameters='{"sui_image_params": {"prompt": "a boat", "seed": ' + "9" * 5000 + "}}") is None
        )

    def test_halves_of_characters_are_no_text(self):
        result = png(parameters='{"sui_image_params": {"prompt": "a \\ud800 boat\\u0000", "seed": -1}}')
        assert result.prompt.encode("utf-8").decode() == "a   boat"
        assert result.seed is None


KEYS = [
    "parameters",
    "prompt",
    "workflow",
    "Comment",
    "Description",
    "sd-metadata",
    "invokeai_metadata",
    "Dream",
]
WORDS = [
    "positive", "negative", "text", "class_type", "inputs", "nodes", "links", "type", "id", "widgets_values", "image",
    "prompt", "uc", "v4_prompt", "caption", "char_captions", "sui_image_params", "seed", "KSampler", "CLIPTextEncode",
    "SaveImage", "guider", "conditioning", "definitions", "subgraphs", "select", "1", "2", "0", "a boat", "c", "Prompt",
    "full_prompt", "version", "Text Switch", "link", "name", "widget", "images", "pipe", "positive_prompt", "mode",
]  # fmt: skip
LEAVES = st.one_of(
    st.sampled_from(WORDS), st.integers(-3, 3), st.none(), st.booleans(), st.floats(), st.text(max_size=5)
)
TREES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.sampled_from(WORDS), inner, max_size=5)
    ),
    max_leaves=30,
)


class TestRubbish:
    @given(
        st.dictionaries(st.sampled_from(KEYS), st.one_of(st.text(), TREES.map(json.dumps)), max_size=4),
        st.binary(),
    )
    def test_any_fields_give_a_prompt_or_none(self, fields, packet):
        result = read_prompt(TextFields(fields, {"UserComment": next(iter(fields.values()), "")}, packet))
        assert result is None or (result.prompt.strip() and result.prompt.encode())

    @given(st.dictionaries(st.sampled_from(["1", "2", "3", "4"]), TREES, max_size=4))
    def test_any_graph(self, graph):
        for reader in (comfyui.read, comfyui.read_workflow, settings.read, invokeai.read):
            result = reader(graph)
            assert result is None or isinstance(result.prompt, str)

    @given(st.data())
    def test_graphs_of_nodes_with_any_links(self, data):
        link = st.tuples(st.sampled_from("12345"), st.integers(0, 2)).map(list)
        inputs = st.dictionaries(
            st.sampled_from(WORDS), st.one_of(link, st.text(max_size=4), st.integers(0, 3)), max_size=5
        )
        kinds = st.sampled_from(
            ["KSampler", "CLIPTextEncode", "Text Concatenate", "Switch", "SaveImage", "Reroute", "X"]
        )
        graph = {name: node(data.draw(kinds), **data.draw(inputs)) for name in "12345"}
        result = comfyui.read(graph)
        assert result is None or result.prompt
