"""One target under atheris: `python -m tests.fuzz.guided TARGET [libFuzzer's arguments]`. Started by script/fuzz."""

import sys

import atheris

with atheris.instrument_imports(include=["nodeagent", "certs", "redirect"]):
    from tests.fuzz.targets import TARGETS

if __name__ == "__main__":
    target = TARGETS[sys.argv.pop(1)]
    atheris.Setup(sys.argv, lambda data: [target(data), None][1])
    atheris.Fuzz()
