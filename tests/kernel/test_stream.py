"""Packets in flight while an enabled fence's list is replaced: none is lost, none is let in."""

import pytest

from tests import lab, stream

UPDATES = 1000
EVERY = 16  # an update of a short list swaps as a long one does, and sooner again
LEAST_RATE = 10_000  # packets a second, of each of the four kinds


@pytest.mark.slow
@pytest.mark.parametrize("variant", lab.VARIANTS)
def test_a_thousand_updates_lose_and_leak_nothing(geofence, kernel, tmp_path, variant):
    old, new = stream.lists(tmp_path, EVERY)
    first = geofence(
        "update", "--country", "JP", "--source", "plain", "--from", old, "--accept-change"
    )
    assert first.status == 0, first.err
    result = stream.during_updates(UPDATES, variant, geofence.state, old, new)
    assert (result.lost, result.leaked) == (0, 0), result
    assert result.sent / result.seconds > LEAST_RATE, result
    generations = geofence("history", "--json").document["fences"][0]["generations"]
    assert generations[-1]["generation"] == UPDATES + 1
