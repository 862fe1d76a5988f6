"""Runs CPython's own test modules with their servers at addresses that are not loopback, and says how each test ended.

Usage: suite.py ORDER, with ORDER as JSON: {"modules", "left_out", "ipv4", "ipv6", "servers_in", "result"}. `modules` may
name single tests, too. For the Python of the distribution, which brings these tests. The tests are as they are, with three things around them:
* The addresses 127.0.0.1 and ::1 in them are read as `ipv4` and `ipv6`. (`localhost` is the host's affair: /etc/hosts.)
* With `servers_in`, the path of a network namespace, a socket that is told to listen becomes one of that namespace, so that
  every connection of a test crosses from one host to another although both its ends are in one process.
* `left_out` are the tests, by the beginning of their names, that cannot run so.
"""

import ast
import ctypes
import faulthandler
import importlib.abc
import importlib.machinery
import importlib.util
import io
import json
import os
import socket
import sys
import unittest
from pathlib import Path
from typing import ClassVar

CLONE_NEWNET = 0x40000000
HANG_S = 120  # of one test: then all stacks are printed, and the run ends
_OPTIONS = (
    (socket.SOL_SOCKET, socket.SO_REUSEADDR),
    (socket.SOL_SOCKET, socket.SO_REUSEPORT),
    (socket.SOL_SOCKET, socket.SO_BROADCAST),
)
_OPTIONS_6 = ((socket.IPPROTO_IPV6, socket.IPV6_V6ONLY),)
PORTS_TRIED = 200
_libc = ctypes.CDLL(None, use_errno=True)


class Rewritten(ast.NodeTransformer):
    """A module's syntax tree with other addresses in it."""

    def __init__(self, addresses):
        self._addresses = addresses

    def visit_Constant(self, node):
        text = node.value
        if not isinstance(text, str):
            return node
        text = self._addresses.get(text, text).replace("//127.0.0.1", f"//{self._addresses['127.0.0.1']}")
        return ast.copy_location(ast.Constant(text), node)


class Loader(importlib.machinery.SourceFileLoader):
    """Loads a test module rewritten; compiled files, which are not, stay unused."""

    addresses: ClassVar[dict[str, str]] = {}

    def get_code(self, fullname):
        path = self.get_filename(fullname)
        tree = Rewritten(self.addresses).visit(ast.parse(self.get_data(path), path))
        return compile(ast.fix_missing_locations(tree), path, "exec", dont_inherit=True)


class Finder(importlib.abc.MetaPathFinder):
    """Finds the modules of the package `test`."""

    def find_spec(self, fullname, path=None, target=None):
        if fullname.partition(".")[0] != "test":
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec and isinstance(spec.loader, importlib.machinery.SourceFileLoader):
            spec.loader = Loader(fullname, spec.loader.path)
        return spec


class Elsewhere:
    """Another network, in which sockets are made that listen at its addresses."""

    def __init__(self, namespace, addresses):
        self._there, self._here = os.open(namespace, os.O_RDONLY), os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        self._addresses = ("0.0.0.0", "::", *addresses)

    def take_over(self):
        """Has every socket that is bound to these addresses, or to any, listen there. Its port is free in both networks.

        Which TCP sockets listen is known when they are told to; a UDP socket moves at once.
        """
        bind, listen = socket.socket.bind, socket.socket.listen

        def bind_both(sock, address):
            bind(sock, address)
            if self._is_ours(sock) and sock.type == socket.SOCK_DGRAM:
                move(sock)
                return
            for _ in range(PORTS_TRIED):
                if not self._is_ours(sock) or address[1] or self._is_free(sock):
                    return
                with socket.socket(sock.family, sock.type, sock.proto) as other:
                    _copy_options(sock, other)
                    bind(other, address)
                    _put(other, sock)

        def move(sock):
            with self._twin(sock) as other:
                _put(other, sock)

        def listen_there(sock, *arguments):
            if self._is_ours(sock):
                move(sock)
            listen(sock, *arguments)

        socket.socket.bind, socket.socket.listen = bind_both, listen_there

    def _is_ours(self, sock):
        if sock.family not in (socket.AF_INET, socket.AF_INET6) or sock.type not in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            return False
        is_listening = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        return not is_listening and sock.getsockname()[0] in self._addresses

    def _is_free(self, sock):
        try:
            self._twin(sock).close()
        except OSError:
            return False
        return True

    def _twin(self, sock):
        """A socket there, bound as this one is here."""
        _enter(self._there)
        try:
            other = socket.socket(sock.family, sock.type, sock.proto)
        finally:
            _enter(self._here)
        try:
            _copy_options(sock, other)
            super(socket.socket, other).bind(sock.getsockname())
        except OSError:
            other.close()
            raise
        return other


def _copy_options(sock, other):
    for level, option in (*_OPTIONS, *(_OPTIONS_6 if sock.family == socket.AF_INET6 else ())):
        other.setsockopt(level, option, sock.getsockopt(level, option))
    os.set_blocking(other.fileno(), os.get_blocking(sock.fileno()))


def _put(other, sock):
    """In the place of a socket, whose number stays."""
    os.dup2(other.fileno(), sock.fileno(), os.get_inheritable(sock.fileno()))


def _enter(namespace):
    if _libc.setns(namespace, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


class Outcomes(unittest.TestResult):
    """How each test ended, by its name; of a failure, the last line too."""

    def __init__(self):
        super().__init__()
        self.by_test = {}
        self.words = {}

    def startTest(self, test):  # noqa: N802 - unittest's names, here and below
        super().startTest(test)
        faulthandler.dump_traceback_later(HANG_S, exit=True)
        self.by_test[test.id()] = "ok"

    def stopTest(self, test):  # noqa: N802
        faulthandler.cancel_dump_traceback_later()
        super().stopTest(test)

    def addError(self, test, err):  # noqa: N802
        self._note(test, "error", err)

    def addFailure(self, test, err):  # noqa: N802
        self._note(test, "failure", err)

    def addSubTest(self, test, subtest, err):  # noqa: N802
        if err is not None:
            self._note(test, "failure" if issubclass(err[0], test.failureException) else "error", err)

    def addSkip(self, test, reason):  # noqa: N802
        self.by_test[test.id()] = "skipped"
        self.words[test.id()] = reason

    def addExpectedFailure(self, test, err):  # noqa: N802
        self.by_test[test.id()] = "expected failure"

    def addUnexpectedSuccess(self, test):  # noqa: N802
        self.by_test[test.id()] = "unexpected success"

    def _note(self, test, outcome, err):
        self.by_test[test.id()] = outcome
        self.words[test.id()] = self._exc_info_to_string(err, test)[-1500:]


def _chosen(suite, left_out):
    """The tests of a suite, in its order and grouped as it is, without those left out."""
    kept = unittest.TestSuite()
    for each in suite:
        if isinstance(each, unittest.TestSuite):
            kept.addTest(_chosen(each, left_out))
        elif not each.id().startswith(tuple(left_out)):
            kept.addTest(each)
    return kept


def main():
    order = json.loads(sys.argv[1])
    sys.dont_write_bytecode = True
    Loader.addresses = {"127.0.0.1": order["ipv4"], "::1": order["ipv6"]}
    sys.meta_path.insert(0, Finder())
    if order["servers_in"]:
        Elsewhere(order["servers_in"], Loader.addresses.values()).take_over()
    from test import support

    support.use_resources = []  # no test that wants the Internet, a screen, or minutes
    suite = _chosen(unittest.defaultTestLoader.loadTestsFromNames(order["modules"]), order["left_out"])
    outcomes = Outcomes()
    sys.stdout = io.StringIO()  # some say what they do
    suite.run(outcomes)
    Path(order["result"]).write_text(json.dumps({"outcomes": outcomes.by_test, "words": outcomes.words}), encoding="utf-8")
    sys.stdout = sys.__stdout__
    sys.stdout.flush()
    os._exit(0)  # threads of failed tests may never end


if __name__ == "__main__":
    main()
