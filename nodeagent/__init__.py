"""nodeagent: a service mesh for plain Linux hosts, one daemon each.

The packages, in the order in which a change and then a connection meets them:

embedded    the catalog for those who have no Consul: its HTTP API over SQLite, CA included
control     follows the catalog, keeps certificates fresh, answers the command line (no privilege, no traffic)
catalog     what the catalog says -> an immutable Snapshot (pure)
process     supervisor, spawner, sentry and workers: who runs, as whom, with which sockets
proxy       the data plane's shell: accept, ask decide, open a tunnel, relay, record
decide      (snapshot, facts) -> decision, or a refusal that says why (pure)
wire        bytes <-> values without I/O: frames, ClientHello, HTTP/2 tunnel
observe     records, metrics, log
model       the vocabulary: frozen values
config, limits, errors    settings, numbers with their reasons, reasons of refusal
lab         hosts as network namespaces on one machine
cli         the command line
"""

__version__ = "0.1.0"
