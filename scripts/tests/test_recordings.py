"""The recordings of a real cluster's answers: what they must have for the played cluster to be believed."""

import pytest

from scripts.tests import recordings


@pytest.mark.parametrize("name", recordings.ASKED)
def test_every_field_is_recorded(name: str) -> None:
    """No field that FakeCluster fills in was invented: the real API had each, with one type."""
    document = recordings.load(name)
    for field in recordings.FIELDS[name]:
        shape = recordings.shape(document, field)
        assert len(shape) == 1, f"{field}: {shape}"
        assert "missing" not in shape, field


def test_a_changed_api_is_seen() -> None:
    """A field that went away or became something else is told by its name."""
    now = {name: recordings.load(name) for name in recordings.ASKED}
    assert recordings.differences(now) == []
    now["application"]["status"]["sync"]["revision"] = 7
    del now["namespace"]["metadata"]["uid"]
    assert recordings.differences(now) == [
        "namespace: metadata.uid is str in the recording, missing now",
        "application: status.sync.revision is str in the recording, int now",
    ]
