"""The fake bundle with costs in its manifest, for benchmarks that count them."""

import dataclasses

from grefine_rt import Refiner
from grefine_rt.bundle.manifest import Cost
from tests.support import fake_bundle


def priced_refiner(costs=True, drafts=3):
    """The runtime's own stand-in for a bundle, with made-up costs."""
    bundle = fake_bundle.Bundle()
    manifest = bundle.manifest
    bundle.manifest = dataclasses.replace(
        manifest,
        components={name: name for name in bundle.engines},
        costs={name: Cost((0.0, 1e6, 0.0), (0.0, 0.0, 0.0)) for name in bundle.engines} if costs else None,
        inpaint=dataclasses.replace(manifest.inpaint, drafts=drafts),
        plan=dataclasses.replace(manifest.plan, p_bound=0.9),
    )
    return Refiner(bundle)
