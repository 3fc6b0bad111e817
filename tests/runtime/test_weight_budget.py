"""How much of an engine's weights lies on the GPU when not all do: the arithmetic."""

from grefine_rt.bundle.manifest import FileEntry
from grefine_rt.engine.tensorrt.weight_budget import HEADROOM, weight_budget
from tests.support.sidecars import manifest, sidecar

GB = 10**9


def engine(size, streams=True):
    flags = "TF32 WEIGHT_STREAMING" if streams else "TF32"
    entry = FileEntry(size, "a" * 64)
    return sidecar(manifest(), options={"flags": flags}, engine=entry)


def test_what_fits_to_the_byte_is_not_streamed():
    enough = 6 * GB + 2 * GB + HEADROOM  # own weights, another's
    own, other = engine(6 * GB), engine(2 * GB, streams=False)
    assert weight_budget(own, [other], enough) is None
    assert weight_budget(own, [other], enough - 1) == 6 * GB - 1


def test_those_that_stream_share_by_their_size():
    step, restore = engine(6 * GB), engine(2 * GB)
    free = 4 * GB + HEADROOM
    assert weight_budget(step, [restore], free) == 3 * GB
    assert weight_budget(restore, [step], free) == GB


def test_with_nothing_left_all_weights_stay_in_host_memory():
    assert weight_budget(engine(6 * GB), [engine(9 * GB, streams=False)], 8 * GB) == 0
