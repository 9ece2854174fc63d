"""Fixtures that start mosquitto."""

import pytest
from edge.sinks.brokers import MOSQUITTO, Broker


@pytest.fixture
def start(tmp_path):
    """Return a function that starts a broker, which is killed after the test."""
    if MOSQUITTO is None:
        pytest.skip("needs the program mosquitto (apt install mosquitto)")
    brokers = []

    def start_broker(*settings):
        brokers.append(Broker(tmp_path, *settings))
        return brokers[-1]

    yield start_broker
    for broker in brokers:
        broker.kill()


@pytest.fixture
def broker(start):
    return start()
