"""Stage 1 as tests ask for it: one draft of one picture in one call."""

from grefine_rt.diffusion.regenerate import Redrawing


def redraw(bundle, picture, mask, prompt, *, seed, draft=0, steps=None, solver=None, on_step=None, **options):
    drawing = Redrawing(bundle, picture, mask, prompt, **options)
    return drawing.draw(seed=seed, draft=draft, steps=steps, solver=solver, on_step=on_step)
