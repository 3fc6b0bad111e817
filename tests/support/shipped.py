"""What the embedded bundle was trained on."""

import pytest

from grefine_export.mini.bundle import VERSION
from grefine_rt.bundle import store
from tests.support.paths import MINI

_SHIPPED = store.read_manifest(MINI).version

knows_this_world = pytest.mark.skipif(
    _SHIPPED != VERSION,
    reason=f"engines/mini is {_SHIPPED}, trained on the narrower world; {VERSION} will know this one",
)
