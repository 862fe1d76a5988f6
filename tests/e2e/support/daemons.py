"""Ordinary servers as services of a lab: redis, PostgreSQL and nginx, as Debian ships them, in directories of their own."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp

from nodeagent.lab.lab import Lab

REDIS_PORT, POSTGRES_PORT, NGINX_PORT = 6379, 5432, 8080
_NGINX_CONF = """
daemon off; pid {directory}/nginx.pid; error_log stderr; user www-data; worker_processes 1;
events {{}}
http {{
    log_format plain '$remote_addr $connection $connection_requests "$request" $status';
    access_log {directory}/access.log plain;
    server {{
        listen {port}; listen [::]:{port};
        location / {{ return 200 "you sent: $http_x_note\\n"; }}
        location /files/ {{ alias {directory}/; }}
    }}
}}
"""


@contextmanager
def directory_of(user: str) -> Iterator[Path]:
    """A directory that belongs to `user` and that every user may enter."""
    directory = Path(mkdtemp(prefix="nodeagent-e2e-"))
    try:
        shutil.chown(directory, user)
        directory.chmod(0o755)
        yield directory
    finally:
        shutil.rmtree(directory)


def postgres_program(name: str) -> str:
    """The newest installed program of that name."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    assert found, f"{name} is not installed; run script/bootstrap --dev"
    return str(found[-1])


def start_redis(lab: Lab, host: str) -> None:
    """Without a disk, open to all who reach it."""
    options = ["--port", str(REDIS_PORT), "--save", "", "--appendonly", "no", "--protected-mode", "no"]
    lab.run(host, "redis", ["redis-server", *options], port=REDIS_PORT, user="redis")


def start_postgres(lab: Lab, host: str, directory: Path) -> None:
    """As the user `postgres`, trusting everybody, and with nothing of TLS."""
    data = directory / "data"
    command = [postgres_program("initdb"), "-D", str(data), "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"]
    subprocess.run(["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", *command],
                   check=True, capture_output=True, cwd=directory)  # fmt: skip
    with (data / "pg_hba.conf").open("a") as rules:
        rules.write("host all all all trust\n")
    options = {"listen_addresses": "*", "port": str(POSTGRES_PORT), "unix_socket_directories": "", "fsync": "off"}
    words = [word for key, value in options.items() for word in ("-c", f"{key}={value}")]
    server = [postgres_program("postgres"), "-D", str(data), *words]
    lab.run(host, "db", server, port=POSTGRES_PORT, user="postgres")


def start_nginx(lab: Lab, host: str, directory: Path) -> Path:
    """Answers with what it was sent, and with the directory's files below /files/. Its access log."""
    config = directory / "nginx.conf"
    config.write_text(_NGINX_CONF.format(directory=directory, port=NGINX_PORT))
    lab.run(host, "web", ["nginx", "-e", "stderr", "-c", str(config)], port=NGINX_PORT)
    return directory / "access.log"
