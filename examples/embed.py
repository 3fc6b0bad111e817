"""A refiner inside an application that serves many requests: `python examples/embed.py`."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from grefine_rt import CancelToken, GRefineError, Refiner

HERE = Path(__file__).parent


def answer(refiner: Refiner, picture: bytes, prompt: str, seed: int, stop: CancelToken) -> str:
    """One request. Whatever is wrong with it is one sentence for the client; the refiner goes on."""
    try:
        result = refiner.refine(picture, prompt, seed, cancel=stop)
    except GRefineError as error:
        return f"refused: {error}"
    return f"alignment {result.before.alignment:.2f} -> {result.after.alignment:.2f}, {result.timings['total']:.0f} ms"


if __name__ == "__main__":
    stop = CancelToken()  # stop.cancel(), from a signal handler say, ends all work before its next step
    # One refiner for all threads. With one CPU thread a run, requests side by side do not fight over the cores.
    with Refiner.load("mini", threads=1).warm_up() as refiner, ThreadPoolExecutor(4) as pool:
        pictures = sorted(HERE.glob("*.png"))
        requests = [(path.read_bytes(), path.with_suffix(".txt").read_text()) for path in pictures]
        requests.append((b"no picture at all", "a red house"))
        answers = [pool.submit(answer, refiner, *asked, seed, stop) for seed, asked in enumerate(requests)]
        for name, said in zip([*(path.stem for path in pictures), "rubbish"], answers, strict=True):
            print(f"{name}: {said.result()}")
