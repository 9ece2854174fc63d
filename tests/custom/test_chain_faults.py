"""Each seeded fault of the chain fails the check, which names the stage of the fault."""

import pytest
from custom.chain_faults import list_faults, list_faults_of_seconds

from kerastag.custom.chain import ChainError

pytestmark = pytest.mark.slow


def test_there_are_enough_faults():
    names = [fault.name for fault in list_faults()]
    assert len(set(names)) == len(names) >= 42


@pytest.mark.parametrize("fault", list_faults(), ids=lambda fault: fault.name)
def test_a_seeded_fault_is_caught_and_its_stage_is_named(fault, chain, tmp_path, monkeypatch):
    check_fault(fault, chain.copy_to(tmp_path), monkeypatch)


@pytest.mark.parametrize("fault", list_faults_of_seconds(), ids=lambda fault: fault.name)
def test_a_seeded_fault_of_a_tagger_of_seconds_is_caught(fault, chain_of_seconds, tmp_path, monkeypatch):
    check_fault(fault, chain_of_seconds.copy_to(tmp_path), monkeypatch)


def check_fault(fault, chain, monkeypatch):
    changed = fault.make(monkeypatch, chain)
    with pytest.raises(ChainError) as caught:
        (changed or chain).check()
    assert caught.value.stage in fault.stages, caught.value
