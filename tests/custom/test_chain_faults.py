"""Each seeded fault of the chain fails the check, which names the stage of the fault."""

import pytest
from custom.chain_faults import list_faults

from kerastag.custom.chain import ChainError

pytestmark = pytest.mark.slow


def test_there_are_enough_faults():
    names = [fault.name for fault in list_faults()]
    assert len(set(names)) == len(names) >= 25


@pytest.mark.parametrize("fault", list_faults(), ids=lambda fault: fault.name)
def test_a_seeded_fault_is_caught_and_its_stage_is_named(fault, chain, tmp_path, monkeypatch):
    changed = fault.make(monkeypatch, chain.copy_to(tmp_path))
    with pytest.raises(ChainError) as caught:
        (changed or chain).check()
    assert caught.value.stage in fault.stages, caught.value
