"""A process that runs optimum's ONNX Runtime pipeline for `benchmarks.peers`; needs nothing of this project.

    python optimum_peer.py PIPELINE THREADS cpu|cuda PICTURE MASK SETTINGS

Each line on standard input is one call; its seconds go to standard output.
"""

import json
import sys
import time

import onnxruntime
from optimum.onnxruntime import ORTStableDiffusionXLInpaintPipeline
from PIL import Image

folder, threads, device, picture, mask, settings = sys.argv[1:]
prompt, side, steps, strength, guidance = json.loads(settings)
session = onnxruntime.SessionOptions()
session.intra_op_num_threads = int(threads)
where = {"provider": "CUDAExecutionProvider", "dtype": "fp16"} if device == "cuda" else {}
pipeline = ORTStableDiffusionXLInpaintPipeline.from_pretrained(
    folder, export=True, session_options=session, **where
)
pipeline.set_progress_bar_config(disable=True)
pair = {"image": Image.open(picture).convert("RGB"), "mask_image": Image.open(mask).convert("L")}
for _ in sys.stdin:
    start = time.perf_counter()
    pipeline(
        prompt,
        **pair,
        height=side,
        width=side,
        num_inference_steps=steps,
        strength=strength,
        guidance_scale=guidance,
        output_type="np",
    )
    print(time.perf_counter() - start, flush=True)
