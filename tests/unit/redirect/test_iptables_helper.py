"""What the helper process understands and how it refuses; that it writes as it reads is in tests/e2e/test_redirect_contract.py."""

import json
import signal
import subprocess
import sys

from redirect.iptables_helper import _explain

ASKED = {"do": "check", "layout": {"nat": {"nodeagent_out": [[{"protocol": "tcp"}, [], "REDIRECT", {"to-ports": ["15001"]}, False]]}}}


def answers(*requests: str) -> list[dict[str, object]]:
    """Of a helper for IPv4, which ends when there is no more to ask."""
    command = [sys.executable, "-I", "-m", "redirect.iptables_helper", "4"]
    done = subprocess.run(command, input="".join(f"{r}\n" for r in requests), capture_output=True, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_each_request_has_its_answer_and_a_bad_one_ends_nothing() -> None:
    """Whatever is wrong, the other side hears of it in a line."""
    bad = json.loads(json.dumps(ASKED))
    bad["layout"]["nat"]["nodeagent_out"][0][3] = {"to-port": ["15001"]}
    fine, refused, unknown, garbage, again = answers(json.dumps(ASKED), json.dumps(bad), '{"do": "dance"}', "}", json.dumps(ASKED))
    assert fine == again == {"error": "", "found": {}, "expected": {}}
    assert "no such parameter" in str(refused["error"])
    assert "dance" in str(unknown["error"])
    assert "JSONDecodeError" in str(garbage["error"])


def test_it_ends_when_it_is_told_to_whatever_its_starter_has_blocked() -> None:
    """As the thread does that repairs rules, for its own part."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        helper = subprocess.Popen([sys.executable, "-I", "-m", "redirect.iptables_helper", "4"], stdin=subprocess.PIPE)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    try:
        helper.terminate()
        assert helper.wait(20) == -signal.SIGTERM
    finally:
        helper.kill()
        helper.communicate()


def test_a_library_that_is_too_new_is_refused_by_name_with_the_cure() -> None:
    """Its number is that of the good one: it is known by what it no longer understands."""
    said = _explain("b'TPROXY': no such parameter b'on-ip'")
    assert "libxtables is too new for python-iptables" in said
    assert 'intercept.backend = "nft"' in said
    assert _explain("invalid value") == "python-iptables: invalid value"


def test_it_starts_without_what_the_library_does_not_need() -> None:
    """All of setuptools, which takes longer than the rest."""
    look = "import sys; from redirect.iptables_helper import _import; _import(); print(sorted({'iptc', 'setuptools'} & {*sys.modules}))"
    done = subprocess.run([sys.executable, "-I", "-c", look], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['iptc']"
