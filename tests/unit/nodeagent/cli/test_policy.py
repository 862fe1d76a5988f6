"""`nodeagent policy`, with a catalog in a variable."""

import json

import pytest
from click.testing import CliRunner, Result

from nodeagent import limits
from nodeagent.cli import policy as module
from nodeagent.cli.main import main
from nodeagent.cli.policy_change import record_bodies
from nodeagent.errors import CatalogError
from tests.support.shelf import OF_1_8, Shelf

HTTP = {"Kind": "service-defaults", "Name": "web", "Protocol": "http"}
API = {"Kind": "service-defaults", "Name": "api", "Protocol": "http"}
ROUTER = {"Kind": "service-router", "Name": "web", "Routes": [{"Destination": {"Service": "api"}}]}
ALLOW = {"Kind": "service-intentions", "Name": "web", "Sources": [{"Name": "shop", "Action": "allow"}]}


@pytest.fixture
def ask(tmp_path, monkeypatch):
    """Runs `nodeagent policy` with a catalog; documents become a file that is given."""

    def run(shelf: Shelf, *arguments: str, given: tuple = (), stdin: str | None = None) -> Result:
        monkeypatch.setattr(module, "open_operator", lambda *_: shelf)
        path = tmp_path / "given.json"
        path.write_text("\n".join(json.dumps(each) for each in given))
        files = ["-f", str(path)] if given else []
        return CliRunner().invoke(main, ["policy", *arguments, *files], input=stdin)

    return run


def test_apply_says_what_became_of_each_entry(ask):
    shelf = Shelf()
    done = ask(shelf, "apply", given=(ROUTER, HTTP | {"Mode": "direct"}, API | {"Mode": "direct"}))
    assert (done.exit_code, done.stdout.splitlines()) == (
        0, ["service-defaults api: created", "service-defaults web: created", "service-router web: created"],
    )  # fmt: skip
    assert "warning: kept, not yet acted on (Mode): service-defaults api, service-defaults web" in done.stderr
    again = ask(shelf, "apply", given=(ROUTER,))
    assert (again.exit_code, again.stdout) == (0, "service-router web: unchanged\n")


def test_what_was_done_is_said_before_anything_else_can_fail(ask, monkeypatch):
    """Removing old trails can take long, and be interrupted."""

    def interrupt(_self):
        raise KeyboardInterrupt

    monkeypatch.setattr(module.PolicyStore, "prune_trails", interrupt)
    done = ask(Shelf(), "apply", given=(HTTP,))
    assert (done.exit_code, done.stdout) == (1, "service-defaults web: created\n")


def test_apply_reads_yaml_from_standard_input(ask):
    shelf = Shelf()
    text = "kind: service-intentions\nname: web\nsources:\n- name: shop\n  action: allow\n---\nkind: mesh\n"
    done = ask(shelf, "apply", "-f", "-", stdin=text)
    assert (done.exit_code, sorted(shelf.entries)) == (0, [("mesh", "mesh"), ("service-intentions", "web")])


def test_nothing_is_written_where_anything_is_wrong(ask):
    shelf = Shelf()
    done = ask(shelf, "apply", given=(HTTP, {"Kind": "service-router", "Name": "web", "Route": []}))
    assert (done.exit_code, shelf.written()) == (1, [])
    assert "given.json:2: service-router web: Route: no such key; did you mean Routes?" in done.stderr
    done = ask(shelf, "apply", given=(ROUTER,))
    assert (done.exit_code, shelf.written()) == (1, [])
    assert "Error: service-router web: Routes: the protocol of web is tcp" in done.stderr


def test_a_dry_run_shows_what_would_change_and_changes_nothing(ask):
    shelf = Shelf(HTTP)
    done = ask(shelf, "apply", "--dry-run", given=(HTTP | {"Protocol": "grpc"}, API, ALLOW | {"ModifyIndex": 3}))
    assert (done.exit_code, shelf.written(trails=True)) == (1, [])
    lines = done.stdout.splitlines()
    assert [line for line in lines if "defaults" in line and line[0] == "s"] == ["service-defaults api: would be created", "service-defaults web: would be changed"]
    assert "service-intentions web: conflict" in lines
    assert ("-Protocol: http" in lines, "+Protocol: grpc" in lines) == (True, True)
    told = json.loads(ask(shelf, "apply", "--dry-run", "-o", "json", given=(API,)).stdout)
    assert (told["dryRun"], [each["result"] for each in told["entries"]]) == (True, ["created"])


def test_a_partial_failure_is_told_with_what_holds(ask):
    shelf = Shelf()

    def refuse(method, path):
        if path == "/v1/config" and shelf.entries:
            raise CatalogError("the disk is full")

    shelf.before = refuse
    done = ask(shelf, "apply", given=(HTTP, API))
    assert (done.exit_code, done.stdout) == (1, "service-defaults api: created\n")
    assert "service-defaults web: refused: the disk is full\n1 of 2 hold" in done.stderr
    shelf.before = lambda _method, _path: None
    told = json.loads(ask(shelf, "apply", "-o", "json", given=(HTTP, API)).stdout)
    assert [(each["name"], each["result"]) for each in told["entries"]] == [("api", "unchanged"), ("web", "created")]


def test_what_get_prints_can_be_applied_again(ask):
    """And knows of which state it is."""
    shelf = Shelf(HTTP, ALLOW)
    text = ask(shelf, "get", "service-defaults", "web").stdout
    assert text == f"Kind: service-defaults\nName: web\nProtocol: http\nModifyIndex: {shelf.index - 1}\n"
    assert ask(shelf, "apply", "-f", "-", stdin=text.replace("http", "grpc")).exit_code == 0
    stale = ask(shelf, "apply", "-f", "-", stdin=text.replace("http", "http2"))
    assert (stale.exit_code, "conflict" in stale.stderr) == (1, True)
    assert json.loads(ask(shelf, "get", "service-intentions", "-o", "json").stdout)["Sources"] == ALLOW["Sources"]
    missing = ask(shelf, "get", "service-router", "web")
    assert (missing.exit_code, "there is no service-router web" in missing.stderr) == (4, True)


def test_a_kind_that_is_none_is_a_usage_error(ask):
    done = ask(Shelf(), "get", "service-ruoter")
    assert (done.exit_code, "did you mean service-router?" in done.stderr) == (2, True)


def test_list_tells_where_each_is_and_whether_agents_act_on_it(ask):
    shelf = Shelf(HTTP, ALLOW)
    ask(shelf, "apply", given=({"Kind": "fault", "Name": "web", "Injections": [{"Delay": "1s"}]},))
    rows = [line.split() for line in ask(shelf, "list", "--no-headers").stdout.splitlines()]
    assert [(row[0], row[3], row[4]) for row in rows] == [
        ("service-defaults", "config", "yes"), ("service-intentions", "config", "yes"), ("fault", "KV", "no"),
    ]  # fmt: skip
    told = json.loads(ask(shelf, "list", "fault", "-o", "json").stdout)
    assert told["entries"] == [{"kind": "fault", "name": "web", "index": shelf.values["nodeagent/config/fault/web"][1], "place": "nodeagent/config/fault", "acted_on": "no"}]


def test_rows_that_an_entry_stands_in_the_place_of_are_named(ask):
    """With Consul 1.8: when it comes, while it is there, and when it goes."""
    shelf = Shelf(kinds=OF_1_8)
    assert "in force" not in ask(shelf, "apply", given=(ALLOW,)).stderr
    assert ask(shelf, "list", "--no-headers").stdout.split()[-2:] == ["KV", "yes"]
    shelf.rows = [{"SourceName": "api", "DestinationName": ALLOW["Name"], "Action": "allow"}, {"SourceName": "api", "DestinationName": "db", "Action": "deny"}]
    row = f"api -> {ALLOW['Name']} (allow)"
    assert f"not in force, as an entry stands in the place of all rows of its destination: {row}\n" in ask(shelf, "list").stderr
    gone = ask(shelf, "delete", "service-intentions", ALLOW["Name"])
    assert f"these rows are in force again, as no entry stands in their place: {row}\n" in gone.stderr
    assert f"so these are not in force: {row}\n" in ask(shelf, "apply", given=(ALLOW,)).stderr
    assert "in force" not in ask(Shelf(), "apply", given=(ALLOW,)).stderr


def test_delete_is_by_name_or_by_file(ask):
    shelf = Shelf(HTTP, API, ROUTER, ALLOW)
    assert ask(shelf, "delete").exit_code == 2
    assert ask(shelf, "delete", "mesh", "mesh").exit_code == 4
    needed = ask(shelf, "delete", "service-defaults", "web")
    assert (needed.exit_code, "the protocol of web is tcp" in needed.stderr, shelf.written()) == (1, True, [])
    assert ask(shelf, "delete", "service-intentions", "web", "--dry-run").stdout.startswith("service-intentions web: would be deleted\n--- ")
    done = ask(shelf, "delete", given=(API, ROUTER, HTTP))
    assert (done.exit_code, done.stdout.splitlines()) == (
        0, ["service-router web: deleted", "service-defaults web: deleted", "service-defaults api: deleted"],
    )  # fmt: skip


def test_validate_asks_nobody_unless_it_is_told_to(ask):
    shelf = Shelf()
    done = ask(shelf, "validate", given=(ROUTER,))
    assert (done.exit_code, done.stdout, shelf.asked) == (0, "1 entry, valid\n", [])
    online = ask(shelf, "validate", "--online", given=(ROUTER,))
    assert (online.exit_code, "the protocol of web is tcp" in online.stderr, shelf.written()) == (1, True, [])
    told = json.loads(ask(shelf, "validate", "--online", "-o", "json", given=(ROUTER,)).stdout)
    assert (told["valid"], len(told["faults"])) == (False, 1)
    told = json.loads(ask(shelf, "validate", "-o", "json", given=(HTTP, API)).stdout)
    assert (told["valid"], told["entries"]) == (True, 2)


def test_diff_is_with_the_catalog_or_with_files(ask, tmp_path):
    shelf = Shelf(HTTP)
    assert ask(shelf, "diff", given=(HTTP,)).exit_code == 0
    done = ask(shelf, "diff", given=(HTTP | {"Protocol": "grpc"}, API))
    assert (done.exit_code, done.stdout.splitlines()[:2]) == (1, ["--- service-defaults web (catalog)", "+++ service-defaults web (new)"])
    assert "--- /dev/null" in done.stdout
    old = tmp_path / "old.yaml"
    old.write_text("Kind: service-defaults\nName: web\n")
    told = json.loads(ask(shelf, "diff", "--against", str(old), "-o", "json", given=(HTTP,)).stdout)
    assert [line for line in told["differ"][0]["diff"] if line[:1] in "+-"][-1] == "+Protocol: http"


def test_history_tells_who_changed_what_and_what_came_from_elsewhere(ask):
    shelf = Shelf()
    ask(shelf, "apply", given=(HTTP,))
    shelf.put(HTTP | {"Protocol": "http2"})
    ask(shelf, "apply", given=(HTTP | {"Protocol": "grpc"},))
    shelf.put(HTTP | {"Protocol": "tcp"})
    shelf.put(API)
    done = ask(shelf, "history", "service-defaults", "web", "-o", "json", "--text")
    rows = json.loads(done.stdout)["changes"]
    assert [row["act"] for row in rows] == ["created", "external", "changed", "external"]
    assert rows[2]["diff"][-2:] == ["-Protocol: http2", "+Protocol: grpc"]
    assert rows[0]["by"]["token"] == "acc-1"
    lines = [line.split() for line in ask(shelf, "history", "--no-headers").stdout.splitlines()]
    assert sum("external" in line for line in lines) == 3
    assert "+Protocol: grpc" in ask(shelf, "history", "--text").stdout


def test_history_of_what_files_name(ask):
    """Whatever they say of it."""
    shelf = Shelf()
    ask(shelf, "apply", given=(HTTP, API))
    done = ask(shelf, "history", "-o", "json", given=(HTTP | {"Protocol": "tcp"},))
    assert [(row["kind"], row["name"], row["act"]) for row in json.loads(done.stdout)["changes"]] == [("service-defaults", "web", "created")]
    assert ask(shelf, "history", "service-defaults", given=(HTTP,)).exit_code == 2


@pytest.mark.parametrize("which", [(), ("service-intentions",), ("service-intentions", "web")])
def test_rows_of_a_consul_before_1_9_are_what_their_trail_is_held_against(ask, which):
    """They are no entries, and `nodeagent intention` writes and records them."""
    shelf = Shelf(kinds=OF_1_8)
    shelf.rows = [{"ID": "1", "SourceName": name, "DestinationName": "web", "Action": "allow", "SourceType": "consul"} for name in ("shop", "api")]
    after = {"Kind": "service-intentions", "Name": "web", "Sources": [{"Name": name, "Action": "allow"} for name in ("api", "shop")]}
    assert record_bodies(shelf, None, after) == ""
    assert [row["act"] for row in json.loads(ask(shelf, "history", *which, "-o", "json").stdout)["changes"]] == ["created"]
    shelf.rows.pop()
    assert [row["act"] for row in json.loads(ask(shelf, "history", *which, "-o", "json").stdout)["changes"]] == ["created", "external"]


def test_who_may_not_look_at_the_trails_has_applied_all_the_same(ask):
    """A Consul token for one service writes its entries, and no key."""

    class Narrow(Shelf):
        def ask(self, method, path, body=None, **query):
            if "/nodeagent/audit/" in path:
                raise CatalogError("the catalog answered 403 to GET: no; is it the right token?")
            return super().ask(method, path, body, **query)

    done = ask(Narrow(), "apply", given=(HTTP,))
    assert (done.exit_code, done.stdout) == (0, "service-defaults web: created: not recorded for `nodeagent policy history`: this token may not write the trail of service-defaults web in the KV store\n")


def test_not_more_than_so_many_warnings_are_printed(ask):
    given = [ALLOW | {"Name": f"unknown{n}"} for n in range(limits.POLICY_FAULTS + 5)]
    done = ask(Shelf(), "validate", "--online", given=tuple(given))
    assert (done.exit_code, done.stderr.count("nobody knows"), "warning: 5 more" in done.stderr) == (0, limits.POLICY_FAULTS, True)


def test_kinds_are_completed(ask):
    found = ask(Shelf(), "list", "--help")
    assert found.exit_code == 0
    assert module._kinds(None, None, "service-r") == ["service-resolver", "service-router"]


def test_a_trail_that_is_not_understood_is_said_and_nothing_is_made_up_for_it(ask):
    shelf = Shelf(HTTP)
    shelf.values["nodeagent/audit/service-defaults/web"] = b'{"changes": 5}', 3
    for arguments in (("service-defaults", "web"), ("service-defaults",), ()):
        done = ask(shelf, "history", *arguments, "--no-headers")
        assert (done.exit_code, done.stdout) == (0, "")
        assert "the trail of service-defaults web is not understood by this version" in done.stderr


def test_trails_that_cannot_be_removed_are_told(ask, monkeypatch):
    """Else nobody knew, and there were ever more."""
    monkeypatch.setattr(limits, "POLICY_TRAILS", 0)

    def closed(method, path):
        if method == "DELETE":
            raise CatalogError("the catalog answered 403")

    shelf = Shelf()
    shelf.before = closed
    done = ask(shelf, "apply", given=(HTTP,))
    assert (done.exit_code, done.stdout) == (0, "service-defaults web: created\n")
    assert "warning: the oldest trails, of over 0, were not removed: the catalog answered 403" in done.stderr


def test_a_deletion_without_comparing_is_said(ask):
    told = "deletes an entry without comparing"
    assert told in ask(Shelf(HTTP, kinds=OF_1_8), "delete", "service-defaults", "web").stderr
    assert told not in ask(Shelf(HTTP), "delete", "service-defaults", "web").stderr


def test_what_is_left_in_the_kv_store_after_an_upgrade_goes_with_the_next_apply(ask):
    """Also where the entry itself says all that already, and where it is deleted."""
    shelf = Shelf()
    for command in ("apply", "apply", "delete"):
        shelf.values["nodeagent/config/service-intentions/web"] = json.dumps(ALLOW).encode(), 5
        done = ask(shelf, command, given=(ALLOW,))
        assert (done.exit_code, "nodeagent/config/service-intentions/web" in shelf.values) == (0, False)
        assert "warning: removed what the KV store had of entries from before" in done.stderr
        assert "service-intentions web" in done.stderr


@pytest.mark.parametrize("words", [("list",), ("list", "service-intentions"), ("get", "fault"), ("history",), ("delete", "fault", "web")])
def test_nothing_told_to_a_token_that_may_not_read_is_an_error(ask, words):
    shelf = Shelf(kinds=OF_1_8)
    shelf.hidden = ("key",)
    done = ask(shelf, *words)
    assert (done.exit_code, done.stdout) == (1, "")
    assert "this token may not read nodeagent/" in done.stderr


def test_what_may_be_left_out_is_a_warning(ask):
    """Of rows that are shown, and of a state that a change was planned against."""
    shelf = Shelf(HTTP)
    shelf.hidden = ("intention",)
    for words, given in (("list",), ()), (("history",), ()), (("apply", "--dry-run"), (API,)), (("validate", "--online"), (API,)):
        done = ask(shelf, *words, given=given)
        assert (done.exit_code, "this token may not read the intentions of every service" in done.stderr) == (0, True)


@pytest.mark.parametrize("words", [("apply", "--dry-run"), ("apply",), ("validate", "--online")])
def test_keys_that_an_old_consul_refuses_are_told_before_anything_is_written(ask, words):
    router = ROUTER | {"Routes": [{"Destination": {"Service": "api", "RetryOn": ["reset"]}}]}
    shelf = Shelf(HTTP, API, kinds=OF_1_8)
    done = ask(shelf, *words, given=(router, ALLOW))
    assert (done.exit_code, shelf.written(trails=True)) == (1, [])
    assert "service-router web: Routes[0].Destination.RetryOn: Consul before 1.9 has no such key" in done.output
    assert ask(Shelf(HTTP, API), *words, given=(router, ALLOW)).exit_code == 0


def test_delete_by_file_is_of_the_state_that_its_document_is_of(ask):
    """As apply: what somebody changed since it was read is not deleted unseen."""
    shelf = Shelf(HTTP)
    read = HTTP | {"ModifyIndex": shelf.index}
    shelf.put(HTTP | {"Protocol": "grpc"})
    assert ask(shelf, "delete", "--dry-run", given=(read,)).stdout.startswith("service-defaults web: conflict\n")
    stale = ask(shelf, "delete", given=(read,))
    assert (stale.exit_code, shelf.entries["service-defaults", "web"]["Protocol"]) == (1, "grpc")
    assert f"of ModifyIndex {read['ModifyIndex']}, and the catalog has {shelf.index}" in stale.stderr
    assert ask(shelf, "delete", given=(HTTP | {"ModifyIndex": shelf.index},)).stdout == "service-defaults web: deleted\n"


@pytest.mark.parametrize("verb", ["apply", "delete", "diff", "validate"])
def test_programs_are_told_of_faults_as_an_answer(ask, verb):
    """Not only by `validate`; nothing is written."""
    shelf = Shelf(HTTP)
    done = ask(shelf, verb, "-o", "json", given=(HTTP | {"Protokol": "grpc"},))
    told = json.loads(done.stdout)
    assert (done.exit_code, told["valid"], "did you mean Protocol?" in told["faults"][0], shelf.written()) == (1, False, True, [])


def test_what_is_no_entry_in_the_kv_store_is_said_and_no_document(ask):
    shelf = Shelf()
    shelf.values = {
        "nodeagent/config/mirror/zz": (b"\xff garbage", 5), "nodeagent/config/mirror/web": (b'{"Copies": [{"Service": "api"}]}', 6),
        "nodeagent/config/newer/web": (b"{}", 7), "nodeagent/config/mirror": (b"", 8),
    }  # fmt: skip
    alone = ask(shelf, "get", "mirror", "zz")
    assert (alone.exit_code, alone.stdout, "nodeagent/config/mirror/zz in the KV store is no entry" in alone.stderr) == (1, "", True)
    every = ask(shelf, "get", "mirror")
    assert (every.exit_code, every.stdout.count("ModifyIndex"), "mirror/zz in the KV store is no entry" in every.stderr) == (0, 1, True)
    listed = ask(shelf, "list")
    assert [f"nodeagent/config/{key} in the KV store is of no kind" in listed.stderr for key in ("newer/web", "mirror", "mirror/web")] == [True, True, False]
