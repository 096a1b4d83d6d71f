"""Packets in flight while the list is replaced: none is lost, and none is let in."""

import pytest

from tests import lab, stream

UPDATES = 100
LEAST_RATE = 10_000  # packets a second, of each of the four kinds


@pytest.mark.slow
@pytest.mark.parametrize("variant", lab.VARIANTS)
def test_a_hundred_updates_lose_and_leak_nothing(geofence, kernel, tmp_path, variant):
    old, new = stream.lists(tmp_path)
    first = geofence("update", "--country", "JP", "--source", "plain", "--from", old)
    assert first.status == 0, first.err
    result = stream.during_updates(UPDATES, variant, geofence.state, old, new)
    assert (result.lost, result.leaked) == (0, 0), result
    assert result.sent / result.seconds > LEAST_RATE, result
    generations = geofence("history", "--json").document["fences"][0]["generations"]
    assert generations[-1]["generation"] == UPDATES + 1
