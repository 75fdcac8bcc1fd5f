import logging

import pytest


@pytest.fixture
def heard(capfd, monkeypatch):
    """heard(action): its output without any configuration of logging, (stdout, stderr)."""

    def heard(action):
        with monkeypatch.context() as patch:
            patch.setattr(logging.root, "handlers", [])  # pytest's own; else it hears all
            action()
        return tuple(capfd.readouterr())

    return heard
