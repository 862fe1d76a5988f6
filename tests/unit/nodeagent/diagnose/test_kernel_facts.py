"""Facts of the kernel."""

import dataclasses

import pytest

from nodeagent.diagnose import kernel, kernel_facts
from nodeagent.diagnose.kernel_facts import Cgroups, Ephemeral, Expressions, Identification
from tests.unit.nodeagent.diagnose.verdicts import shown


def test_a_fact_stays_as_it_was_seen() -> None:
    """Each of them."""
    kinds = [each for each in vars(kernel_facts).values() if dataclasses.is_dataclass(each)]
    assert len(kinds) == 7
    for kind in kinds:
        fact = kind(*(0 for field in dataclasses.fields(kind) if field.default is dataclasses.MISSING))
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(fact, dataclasses.fields(kind)[0].name, 1)


def test_what_was_not_said_is_well() -> None:
    """A probe names what is wrong, and nothing else."""
    found = [
        *kernel.judge_ephemeral(Ephemeral(32_768, 60_999)), *kernel.judge_expressions(Expressions()),
        *kernel.judge_identification(Identification()), *kernel.judge_cgroups(Cgroups("/sys/fs/cgroup")),
    ]  # fmt: skip
    assert {level for level, _, _ in shown(found)} == {"ok"}
