import pytest

from byrote.stages import ingest


@pytest.fixture
def small_parts(monkeypatch):
    """Let a dozen pictures make several parts."""
    monkeypatch.setattr(ingest, "PART", 5)
