"""Files into entries: all of them, each once, and all that is wrong with its place."""

import io
import os

import pytest

from nodeagent import limits
from nodeagent.cli.policy_files import read_given
from nodeagent.errors import PolicyError

MESH = "kind: mesh\n"
WEB = "Kind: service-defaults\nName: web\n"


def write(directory, **files):
    for name, text in files.items():
        path = directory / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return str(directory)


def refused(*paths):
    with pytest.raises(PolicyError) as error:
        read_given(paths)
    return error.value.faults


def test_files_and_directories_are_read_with_their_places(tmp_path):
    write(tmp_path, a_yaml=f"{MESH}---\n{WEB}", sub__b_json='{"Kind": "service-defaults", "Name": "db"}', c_txt="not policy", _hidden_yaml=":")
    given = read_given([str(tmp_path)])
    assert [(str(key), each.place.removeprefix(f"{tmp_path}/")) for key, each in given.items()] == [
        ("mesh mesh", "a.yaml:1"), ("service-defaults web", "a.yaml:3"), ("service-defaults db", "sub/b.json:1"),
    ]  # fmt: skip


def test_standard_input_is_a_file(monkeypatch):
    class Stdin:
        buffer = io.BytesIO(MESH.encode())

    monkeypatch.setattr("sys.stdin", Stdin)
    assert [each.place for each in read_given(["-"]).values()] == ["standard input:1"]


def test_all_that_is_wrong_in_all_files_is_said(tmp_path):
    write(tmp_path, a_yaml="kind: mesh\nTSL: {}\n---\nkind: srvice-router\n", b_yaml="a: [", c_yaml=MESH, d_yaml=MESH)
    faults = refused(str(tmp_path), str(tmp_path / "none.yaml"))
    assert [fault.replace(str(tmp_path), "").partition(": ")[0] for fault in faults] == ["/a.yaml:1", "/a.yaml:4", "/b.yaml", "/d.yaml:1", "/none.yaml"]
    assert "TSL: no such key; did you mean TLS?" in faults[0]
    assert f"mesh mesh: stands in {tmp_path}/c.yaml:1, too" in faults[3]
    assert "No such file" in faults[4]


def test_nothing_is_no_policy(tmp_path):
    assert "no file there ends with .yaml" in refused(str(tmp_path))[0]
    assert "no entry is there" in refused(write(tmp_path, a_yaml="# nothing\n"))[0]


def test_hcl_is_told_how_to_become_json(tmp_path):
    path = tmp_path / "a.hcl"
    path.write_text('Kind = "mesh"\nTLS {\n')
    assert "`consul config read` prints JSON" in refused(str(path))[0]


def test_a_file_that_cannot_be_read_and_too_many_are_refused(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe.yaml")  # is no file: nobody waits for a writer
    write(tmp_path, a_yaml=MESH, b_yaml=WEB)
    assert len(read_given([str(tmp_path)])) == 2
    monkeypatch.setattr(limits, "POLICY_FILES", 1)
    assert "has more than 1 files" in refused(str(tmp_path))[0]
