"""The client tools of redis and PostgreSQL at work, and what they say; what differs from run to run is left out of it."""

import re
from pathlib import Path
from typing import NamedTuple

from nodeagent.lab.lab import Lab
from tests.e2e.support import daemons

DEADLINE_S = 120.0  # a few seconds on a quiet machine
_CHANCE = re.compile(r"[-+]?\d+\.\d+( s\b| ms\b)?|^(tps|latency|initial connection).*$|PID \d+|restrict \w{40,}", re.MULTILINE)
"""Times, numbers of processes, and the random words with which a dump protects itself."""

Said = list[object]
"""For each command: its exit status, what it printed, what it complained of."""


class Tools(NamedTuple):
    """`shop` on host1 with the tools, servers on host2."""

    lab: Lab
    directory: Path
    """Of the user, for files."""

    def say(self, *command: str, input: str = "") -> list[object]:  # noqa: A002 - as subprocess calls it
        """What a command says, with our own addresses and all that is due to chance made neutral."""
        done = self.lab.exec("host1", *command, service="shop", timeout_s=DEADLINE_S, input=input)
        own = (self.lab.host("host2").ipv4, str(self.directory))
        texts = [done.stdout, done.stderr]
        for number, text in enumerate(texts):
            for each in own:
                text = text.replace(each, "OURS")  # noqa: PLW2901
            texts[number] = _CHANCE.sub("CHANCE", text)
        return [done.returncode, *texts]

    def redis(self, *arguments: str, input: str = "") -> list[object]:  # noqa: A002
        """redis-cli."""
        return self.say("redis-cli", *self._redis, *arguments, input=input)

    def benchmark(self, *arguments: str) -> list[object]:
        """redis-benchmark: its exit status and which tests it has done."""
        status, printed, complaint = self.say("redis-benchmark", *self._redis, "--csv", *arguments)
        return [status, [line.partition(",")[0] for line in str(printed).splitlines()], complaint]

    def postgres(self, program: str, *arguments: str, input: str = "") -> list[object]:  # noqa: A002
        """psql, pgbench, pg_dump, …"""
        where = ["-h", self.lab.host("host2").ipv4, "-p", str(daemons.POSTGRES_PORT), "-U", "postgres"]
        return self.say(daemons.postgres_program(program), *where, *arguments, input=input)

    @property
    def _redis(self) -> list[str]:
        return ["-h", self.lab.host("host2").ipv4, "-p", str(daemons.REDIS_PORT)]


def redis_cli(tools: Tools) -> Said:
    """Commands, errors, transactions, scripts, a large value, bulk input, keys by cursor, blocking and a snapshot's size."""
    said: Said = [tools.redis(*command.split()) for command in (
        "FLUSHALL", "PING", "SET a 1", "INCR a", "GET a", "LPUSH list x y z", "LRANGE list 0 -1", "HSET h k v", "--csv HGETALL h",
        "GET list", "NOSUCH", "BLPOP none 0.2", "EXPIRE a 1000", "OBJECT ENCODING a", "--no-raw LRANGE list 0 -1",
    )]  # fmt: skip
    said.append(tools.redis(input="MULTI\nINCR a\nINCR a\nEXEC\nGET a\n"))
    said.append(tools.redis("EVAL", "local s = 0 for i = 1, 1000 do s = s + i end return s", "0"))
    said.append(tools.redis("-x", "SET", "large", input="x" * 3_000_000))
    said.append(tools.redis("GET", "large"))
    said.append(tools.redis("--pipe", input="".join(f"SET key:{number} {number}\r\n" for number in range(20_000))))
    said.append(tools.redis("DBSIZE"))
    keys = tools.redis("--scan", "--pattern", "key:1999*")
    return [*said, [keys[0], sorted(str(keys[1]).split()), keys[2]]]


def redis_benchmark(tools: Tools) -> Said:
    """Fifty clients, one request at a time, many at a time, and each on a connection of its own; what the server counted."""
    said: Said = [tools.redis("CONFIG", "RESETSTAT")]
    said.append(tools.benchmark("-c", "50", "-n", "3000", "-t", "set,get,incr,lpush,rpush,lpop,sadd,hset,mset"))
    said.append(tools.benchmark("-c", "50", "-P", "16", "-n", "20000", "-t", "set,get", "-d", "1000"))
    said.append(tools.benchmark("-c", "50", "-k", "0", "-n", "1500", "SET", "a", "b"))
    counted = re.findall(r"cmdstat_(\w+):calls=(\d+),.*rejected_calls=(\d+),failed_calls=(\d+)", str(tools.redis("INFO", "commandstats")[1]))
    return [*said, sorted(row for row in counted if row[0] != "config")]


def psql(tools: Tools) -> Said:
    """Queries, errors, COPY both ways, notices, notifications, a query that is cancelled from a second connection."""
    said: Said = [tools.postgres("psql", "-c", command) for command in (
        "CREATE TABLE t (i int PRIMARY KEY, v text)", "SELECT no_such_thing", "INSERT INTO t VALUES (1, 'one'), (1, 'two')", "\\d t",
        "DO $$ BEGIN RAISE NOTICE 'heard'; END $$", "LISTEN news; NOTIFY news, 'now'", "SELECT host(inet_server_addr())",
    )]  # fmt: skip
    said.append(tools.postgres("psql", "-c", "COPY t FROM STDIN", input="".join(f"{i}\t{'v' * 100}\n" for i in range(50_000))))
    said.append(tools.postgres("psql", "-At", "-c", "COPY (SELECT * FROM t ORDER BY i) TO STDOUT"))
    said.append(tools.postgres("psql", "-At", "-f", "-", input="BEGIN;\nDELETE FROM t WHERE i > 9;\nSELECT count(*) FROM t;\nROLLBACK;\n"))
    program, where = daemons.postgres_program("psql"), tools.lab.host("host2").ipv4
    said.append(tools.say(
        "timeout", "--signal=INT", "2", program, "-h", where, "-p", str(daemons.POSTGRES_PORT), "-U", "postgres", "-c", "SELECT pg_sleep(100)"
    ))  # fmt: skip
    return [*said, tools.postgres("psql", "-At", "-d", "nowhere", "-c", "SELECT 1"), tools.postgres("pg_isready")]


def pgbench(tools: Tools) -> Said:
    """Its bulk load, and its transactions from ten clients: on kept connections, and on a new one for each."""
    said: Said = [tools.postgres("pgbench", "-i", "-s", "2", "-q", "--foreign-keys", "postgres")]
    common = ("-n", "-c", "10", "-j", "2", "postgres")
    said.append(tools.postgres("pgbench", "-t", "50", "-M", "prepared", *common))
    said.append(tools.postgres("pgbench", "-t", "10", "-C", "-S", *common))
    return [*said, tools.postgres("psql", "-At", "-c", "SELECT count(*) FROM pgbench_history")]


def pg_dump_and_restore(tools: Tools) -> Said:
    """A database of some megabytes out, in both forms, and back in; what comes out then is the same again."""
    said: Said = [tools.postgres("createdb", "whole"), tools.postgres("createdb", "again")]
    said.append(tools.postgres("pgbench", "-i", "-s", "1", "-q", "whole"))
    whole = tools.postgres("pg_dump", "whole")
    archive = tools.directory / "whole.dump"
    said.append(tools.postgres("pg_dump", "-Fc", "-f", str(archive), "whole"))
    said.append(tools.say(daemons.postgres_program("pg_restore"), "--list", str(archive))[0])
    said.append(tools.postgres("pg_restore", "-j", "2", "-d", "again", str(archive)))
    return [*said, whole, tools.postgres("pg_dump", "again") == whole]


WORKS = {work.__name__: work for work in (redis_cli, redis_benchmark, psql, pgbench, pg_dump_and_restore)}
