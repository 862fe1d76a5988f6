"""Every parser, fed with its committed samples and with what hypothesis makes of them."""

import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.targets import TARGETS

ROOT = Path(__file__).parents[2]
CORPUS = ROOT / "tests" / "fuzz" / "corpus"
BYTES_MAX = 200_000  # of all samples together: a clone is not to grow by what a fuzzer finds

SAMPLES = {name: {path.name: path.read_bytes() for path in sorted((CORPUS / name).glob("*"))} for name in TARGETS}
CUTS = st.integers(0, 1 << 16)


@st.composite
def spoiled(draw: st.DrawFn, samples: list[bytes]) -> bytes:
    """A sample of which some bytes were replaced, removed, doubled, or followed by another sample's."""
    data = draw(st.sampled_from(samples))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(CUTS) % (len(data) + 1)
        end = start + draw(st.integers(0, 8))
        other = draw(st.sampled_from(samples))
        inside = draw(st.one_of(st.binary(max_size=8), st.just(data[start:end] * 2), st.just(other[start:])))
        data = data[:start] + inside + data[end:]
    return data


@pytest.mark.parametrize(("target", "sample"), [(target, sample) for target in TARGETS for sample in SAMPLES[target]])
def test_a_sample_is_taken_or_refused_as_it_says(target: str, sample: str) -> None:
    """`valid-…` also guards what an older version wrote; `refused-…` what was once found. Others may be either."""
    taken = TARGETS[target](SAMPLES[target][sample])
    verdict = sample.partition("-")[0]
    assert taken == {"valid": True, "refused": False}.get(verdict, taken)


@pytest.mark.parametrize("target", TARGETS)
@given(data=st.data())
def test_a_spoiled_sample_is_taken_or_refused(target: str, data: st.DataObject) -> None:
    """Neither another exception than the parser's own, nor a broken promise."""
    TARGETS[target](data.draw(spoiled(list(SAMPLES[target].values()))))


@pytest.mark.parametrize("target", TARGETS)
@given(data=st.binary(max_size=200))
def test_any_bytes_are_taken_or_refused(target: str, data: bytes) -> None:
    """The same for bytes that resemble nothing."""
    TARGETS[target](data)


def test_the_corpus_is_whole_and_small() -> None:
    """A directory for each target and no other, one sample at least that is taken and one that is refused."""
    assert {*TARGETS, "admin_request"} == {path.name for path in CORPUS.iterdir()}
    assert [] == [name for name, samples in SAMPLES.items() if {"valid", "refused"} - {sample.partition("-")[0] for sample in samples}]
    assert sum(len(data) for samples in SAMPLES.values() for data in samples.values()) < BYTES_MAX


def test_a_target_that_is_not_there_is_a_usage_error() -> None:
    """Told with those that are, before anything is fetched."""
    done = subprocess.run([ROOT / "script" / "fuzz", "bogus"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("script/fuzz: there is no target bogus; there are: client_hello ")
