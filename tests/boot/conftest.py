"""What the tests of booting stand on."""

import pytest

from tests import lab


@pytest.fixture
def private(request):
    """Require the private namespace, for a test that makes its own, or makes sets and no rule."""
    if why := request.config.stash[lab.WHY_NO_KERNEL]:
        pytest.skip(why)
    lab.run("ipset", "destroy")
    yield
    lab.run("ipset", "destroy")
