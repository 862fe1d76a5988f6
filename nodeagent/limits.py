"""Every number that bounds something, with the reason for it. All limits are on by default."""

from nodeagent.limits_http import *  # noqa: F403 - one namespace, two files: of HTTP there are many

# --- given by Consul -----------------------------------------------------------------------------------------------

CONSUL_WAIT_S = 300.0  # Consul's own default for a blocking query; it adds up to wait/16 of jitter

# --- chosen here: ports and marks ----------------------------------------------------------------------------------

OUTBOUND_PORT = 15001  # as Istio, Consul and Kuma: operators know these numbers
INBOUND_PORT = 15006
TUNNEL_PORT = 15008  # HBONE's
METRICS_PORT = 15020
NEVER_CAPTURED_PORTS = (22, 53, 8300, 8301, 8302, 8500, 8501, 8502, 8503, 8600)  # ssh, DNS, Consul; as in redirect
LOOPBACK_NETWORKS = ("127.0.0.0/8", "::1/128")  # as in redirect
NEVER_CAPTURED_NETWORKS = (  # link-local, and where clouds keep metadata; as in redirect
    "169.254.0.0/16", "fe80::/10", "fd00:ec2::254/128", "168.63.129.16/32", "100.100.100.200/32",
)  # fmt: skip
HOST_ADDRESSES = 16  # of one host: what the catalog takes as TaggedAddresses of one node
UPSTREAM_MARK = 0x5B  # on source-preserved connections, so that the application's answers come back to us
UNIT_MARK_BASE = 0x5A00_0000  # | number of the unit: what the kernel stamps on a SYN
UNIT_MARKS = 65_535

# --- data plane ----------------------------------------------------------------------------------------------------

ACCEPT_BACKLOG = 4096  # with 16, a worker that dies for 0.5 s under 40 clients refuses half of them; 4096 refuses none
IDENTIFY_S = 0.25  # conntrack and sock_diag take 80 us; whoever is unknown after 250 ms stays unidentified
IDENTIFY_PENDING = 256  # questions to the supervisor in flight for one worker; beyond that callers are unidentified
CONNECT_S = 5.0  # as Consul's ConnectTimeoutMs
LOCAL_CONNECT_S = 1.0  # a source-preserved connection to a local application may meet a tuple in use: try another port
LOCAL_CONNECT_TRIES = 8  # workers walk the ports from random places and may walk side by side for a while
KEEPALIVE_S = 25  # of application connections: conntrack forgets a half-closed one after 60 silent seconds (Linux's
# default); then it breaks, and what its client sends goes past the agent. Two probes in that time. As NAT devices need.
RESET_LOOK_S = 1.0  # for a reset of whom nobody reads: a look costs microseconds, and a worker has 9,000 connections at most
ACCEPTED_S = 0.1  # until what was accepted when a drain began is a connection that the drain waits for
RETIRE_S = 1.0  # for the peer's last streams in a tunnel that takes no more: they left before it was told
FAREWELL_S = 2.0  # for tunnels to say goodbye after the last connection of a drain
LINGER_S = 30.0  # how long closed ends may take to deliver what is queued before they are cut
CALL_ANSWER_S = 15.0  # of the callee's agent to a CONNECT: its own tries to reach the application take less
CALL_LOOK_S = 0.4  # a tunnel that is silent for so long while a call waits for an answer is asked whether it lives
CALL_SILENT_S = 1.9  # and given up, where it says nothing for so long then: agents were seen without a turn for two seconds
CALL_AGAIN_S = 1.8  # for another tunnel then: no call to an agent that hangs waits longer than five seconds
SNAPSHOT_WAIT_S = 1.0  # a new worker's for its first snapshot, which takes milliseconds: connections wait in its queues
RENEW_S = 2.0  # a worker without a channel to control asks the supervisor for one
SVID_ASK_S = 1.0  # control is asked again: it may have been away
SVID_WAIT_S = 5.0  # for the first certificate of a workload, which takes the CA some milliseconds
HANDSHAKE_S = 5.0  # TLS and the first HTTP/2 settings of a tunnel
TUNNELS_PER_PEER = 1024  # accepted by one worker: 93 KiB each after a burst; 16 callers, 16 services and 4 tunnels are 1,024
ACCEPT_REST_S = 0.1  # after a failed accept: without descriptors, 100,000 tries a second help nobody
HANDSHAKES_PER_SOURCE = 64  # in flight, per peer address and worker: each costs 0.4 to 0.85 ms of CPU
HANDSHAKE_STALLED_S = 2.5  # from a peer's hello until the rest: a round trip and a millisecond of its CPU, on a busy host some 100 ms.
# Half of HANDSHAKE_S, for where hosts start again all at once it may be a second, and to end those that are nearest to their end helps nobody
HELLO_BYTES = 16_384 + 5  # one TLS record: RFC 8446, 5.1; a longer hello is not a peer agent's
SESSIONS_PER_KEY = 10  # tunnels of one (source, destination, host): with > 1,000 streams each, all CONNECTIONS_PER_WORKER may be of one
TUNNELS_PER_KEY = 256  # those included that only finish what they carry, as after 128 days of certificates: 24 MiB at most
TUNNEL_TRIES = 2  # tunnels in a row that ended before they carried anything: the second time it is not by chance
STREAMS_PER_SESSION = 1000  # rapid-reset budgets of peers count from 1,000; then another session is opened
STREAMS_WAITING = 4096  # connections waiting for one session to open
SESSION_IDLE_S = 300.0  # an unused tunnel is closed, as ztunnel does
PEER_TIMEOUT_S = 30.0  # unacknowledged bytes to a peer: a shorter partition costs nothing, a longer one ends the tunnel
PING_S = 10.0  # a silent tunnel is asked whether it lives, as ztunnel does
PING_TIMEOUT_S = 20.0  # and given up
STREAM_WINDOW_BYTES = 256 * 1024  # HTTP/2 window of one stream: what a stalled reader can make us hold
SESSION_WINDOW_BYTES = 2**31 - 1  # never the bottleneck: stalled streams must not stop the others
FEED_BYTES = 16_384  # given to the library per stream and round, so that one bulk stream does not starve the rest
FLUSH_BYTES = 256 * 1024  # written to a tunnel per loop turn
STREAM_QUEUE_BYTES = 64 * 1024  # a stream with more queued asks its application to pause
WORKER_BUFFER_BYTES = 256 * 1024 * 1024  # all streams of a worker together; beyond, the fullest are reset, and new ones refused
TLS_BIO_BYTES = 33_024  # two records: 93 KiB a session after a burst instead of 347
DETAIL_CHARS = 400  # of a refusal's sentence that a peer is told: the longest of ours have 300
HOPS = 1  # agents that a connection may have passed before this one: the caller's
RELIEF_PARTS = 8  # one of so many is made free then: 32 MiB are 130 full streams, for to look at 9,000 takes some 30 ms
DESCRIPTORS_SPARE = 32  # of a worker: who comes with one of the last is refused and told why; without any, nobody could be
CONNECTIONS_PER_WORKER = 9_000  # two descriptors each, below a hard limit of 20,000
CONNECTIONS_UNSHARED = 6_750  # three quarters: beyond, a peer that has more than CONNECTIONS_PER_WORKER / (peers + 1) gets none
PREPARED_SOCKETS = 64  # made by the supervisor and sent in one message (0.95 ms)
PREPARED_LOW = 128  # more are asked for below this: on a busy machine the supervisor may answer some 10 ms later
PREPARED_ASKS = 8  # unanswered asks of one worker in one family: PREPARED_MAX
PREPARED_AGAIN_S = 1.0  # after a batch that fell short, for want of descriptors, a worker gets no other before
PREPARED_MAX = 512  # asked for at once, however many wait
PREPARED_REST_S = 1.0  # after a short batch: the supervisor is out of descriptors
PREPARED_WAIT_S = 5.0  # for a batch, as for any connect; it takes a millisecond unless the machine is overloaded
UPSTREAM_PORTS = (1024, 32_767)  # for connections to applications: disjoint from the ephemeral 32768 to 60999

# --- processes -----------------------------------------------------------------------------------------------------

CONFIG_BYTES = 1024 * 1024  # a file with a thousand services has 100 KB
WORKERS_USUAL = 4  # by workers, unless configured: more cores belong to the applications
WORKERS_MAX = 42  # each has up to six listening sockets and a lifeline, and the service manager keeps STORED descriptors
WORKER_FRAME_BYTES = 8 * 1024 * 1024  # from a worker: its CONNECTIONS_PER_WORKER as rows of 0.5 KiB, with room
FRAME_BYTES = 64 * 1024 * 1024  # a snapshot of 10,000 services is 5 MB
CHANNEL_BACKLOG_BYTES = 32 * 1024 * 1024  # a worker that does not read its channel for this long is replaced
BEAT_S = 1.0  # the supervisor asks its workers and refreshes the kernel's dead-man switch
HEAR_S = 0.1  # in between: answers take milliseconds, so a beat tells how it is now; what comes later counts at the next
ALIVE_S = 5  # the switch: no beat for this long and new connections are refused
RESTART_MIN_S = 0.1  # a process that ends is started again after this, doubling
RESTART_MAX_S = 30.0
RESTART_RESET_S = 60.0  # that it must live for the doubling to start anew
RESTARTS_REMEMBERED = 16  # exits in a row: 0.1 s doubled so often is far beyond RESTART_MAX_S
START_S = 15.0  # a worker that could not serve by then is replaced
SPAWN_MAX_S = 240.0  # a spawner is given START_S to answer an order, and up to this where one after another was too slow, as with a cold disk
OPEN_S = 5.0  # so is one that does not accept from the sockets that it was given by then: that takes milliseconds
SENTRY_AHEAD_S = 0.5  # before five seconds are over in which nobody was heard the sentry ends who waits: as many are promised to callers
SENTRY_PATIENCE_S = 1.0  # so long it has seen them wait then: a worker that lives accepts in milliseconds, on a busy host in some hundred
SENTRY_LOOK_S = 0.5  # between two looks, each of 60 ms where there are 16,000 sockets: who came last before the switch fell waits 1.5 s
SENTRY_ALONE_PATIENCE_S = 3.5  # so long without a supervisor: another takes less, ordinarily, and is to find them; with two looks it is under five
SENTRY_ALONE_S = 30.0  # and it ends: a reload's switch holds for REPLACED_S, and who came last is ended by then; nobody else is sent into the queues
SENTRY_QUEUE_BYTES = 8192  # of beats that it has not read, about twenty: then it hangs itself, and is replaced
ANSWER_S = 3.0  # a worker silent for longer stops the beat: 2 s are left until the kernel's switch opens
LATE_BEAT_S = 0.5  # so often it is asked, where it was silent for two BEAT_S: it is replaced in time, and its successor makes a beat
HUNG_S = 3.5  # and is replaced: whoever waits in its queue is answered within 5 s, by its successor
DRAIN_HUNG_S = 30.0  # one that only finishes what it carries gets more: nobody new waits for it, and a kill cuts it all
UNSERVED_S = 20.0  # for so long not all that serve have answered, though START_S is over: the supervisor feeds its watchdog no more
EXIT_CODE_S = 0.02  # what a spawner gets to tell why a worker ended, before the worker is replaced without knowing
LEFT_S = 4.5  # one that nobody serves leaves it as well, counted from when who served it was heard last: whoever waits there waits under five
# seconds, and HUNG_S, LATE_BEAT_S and the birth of a successor, some 0.3 s, are less
LEFT_GRACE_S = 0.4  # but not while others, who serve, have just begun, or its worker was given the sockets just now: each takes milliseconds
LEFT_HELD_S = 0.9  # and where nobody served for long: a sentry has ended who waited for SENTRY_ALONE_PATIENCE_S and a look by then
VACANT_S = 1.0  # a slot that stays empty for longer leaves the listening group: its share goes to the others
CUT_S = 5.0  # control and spawner get this to end after SIGTERM before they are killed
KILLED_S = 1.0  # SIGKILL ends a process within milliseconds: one that lives after this is held in the kernel, and runs no line of ours any more
CHANNEL_MESSAGES = 70_000  # waiting for one worker: every mark once, and room; a worker that reads none is replaced
CHANNEL_TURN = 64  # messages of one worker handled per loop turn: 5 ms of owner questions
SLICE_LOOKS = 8  # looks at the slices until none is new: they are nested at most four deep
CGROUPS_MAX = 100_000  # cgroups looked at to name one connection
RESCAN_CUT_S = 5.0  # after a look at the cgroup tree that ended at CGROUPS_MAX, which takes a second or two
RESCAN_S = 0.02  # between two looks at the whole cgroup tree: a caller can make unknown cgroups at will
CAPTURE_ADDRESSES = 200_000  # taken from control; the kernel's set takes 5,000 in 27 ms
CAPTURE_PORTS = 10_000
CATALOG_ADDRESSES = 64  # behind its name: Consul advises five servers; what is beyond is captured, and passed on by a worker
CAPTURE_ENDPOINTS = 100_000  # (address, port) excepted from the host's fail mode; beyond, nothing bypasses a dead agent
CONTROL_FRAME_BYTES = 16 * 1024 * 1024  # CAPTURE_ADDRESSES and CAPTURE_ENDPOINTS of IPv6 as text: 13 MB
RENEW_GAP_S = 1.0  # between two new channels to control that one worker gets by asking
RESEND_S = 0.1  # descriptors that the kernel would not take (too many in flight) are sent again after this
COMPLAIN_S = 60.0  # the supervisor's complaint about one lack (descriptors, memory) is logged once in this time
PART_WELL_S = 5.0  # a part of control that has run for so long has not failed: what it cannot have, it misses at its start
STATS_S = 1.0  # the supervisor's figures to control
CONTROL_MUTE_TURNS = 2  # of these in a row in which it read nothing: from then on workers that know no policy are not to wait for it
CONTROL_DEAF_TURNS = 30  # of these; then control hangs, and is replaced: to compile 10,000 services on a busy host takes it some seconds
CONTROL_DEAF_TURNS_MAX = 480  # where it was cut again and again: a host may be slow, with a CPU quota or a cold disk; eight minutes are no start
DRAIN_S = 30.0  # SIGTERM: what open connections get before they are cut
DRAIN_MAX_S = 3600.0  # what connections of an earlier generation get: pools and shells last longer than any deploy waits
CUT_SPREAD_S = 5.0  # over which those that are left then are closed: their clients do not all come back in one moment
GENERATIONS = 3  # alive at once: each holds N workers of 25 MB; a fourth ends the oldest
SPARES = 1  # workers that know everything and listen to nothing: one takes a dead worker's place within 100 ms
SETS_PER_WORKER = 10  # listening sets that one worker takes when there are fewer workers than sets: 60 descriptors a message
RELOAD_CHECK_S = 30.0  # the next program gets this to import itself and read the configuration; it takes about one second
SETTLE_S = 15.0  # a reload waits this long for the one before it; a generation that never serves must be replaceable
UPGRADE_S = 90.0  # a version that does not serve after this is taken back: RELOAD_CHECK_S, SETTLE_S, and a start on a busy host
REPLACED_S = 20  # the last beat before it executes itself lives so long: workers serve meanwhile, and a busy host takes over 5 s;
# should the next program die before its first beat, which sets ALIVE_S again, the service manager starts another one
AWAY_S = 30.0  # what its watchdog gives it then: REPLACED_S, and time for the kernel's rules of iptables on a busy host
PAUSE_S = 15.0  # the supervisor is away while it executes itself, a second, or six with iptables on a busy host: who asks it waits longer
QUIET_S = 1.0  # before it goes, it answers what it was asked: questions about owners take 20 ms at most
STORED = 512  # descriptors that the service manager keeps, FileDescriptorStoreMax= of the unit: 42 sets of six, lifelines of 4 generations, 2
RESUME_S = 4.0  # a new agent serves when its workers know policy, or after this; after a crash callers wait for it: as long as the beat lasts
RESUME_MAX_S = 15.0  # and longer while the first control runs and has said nothing, as on a busy host: what a worker gets to start
START_COUNT_S = 0.5  # the disk gets this to keep how often the agent was started (it needs 10 ms): callers wait for workers meanwhile
KEYS_GAP_S = 1.0  # between two looks at what control passes: a service manager is told each time, and the newest is enough
KEY_FILE_S = 30.0  # a disk gets this to take the keys (it needs 10 ms), and as long until it is asked again
KEYS_BYTES = 8 * 1024 * 1024  # of control's memory of keys: SVID_ON_DEMAND certificates of 2 KiB, with room
DENY_GRACE_S = 1.0  # connections that a change denies are cut over this: their clients do not all come back in one moment
BACKSTOP_S = 1.0  # what the callee's agent gets beyond the grace, for it may hear of a change later; then the caller's cuts, over this
CUT_TICK_S = 0.02  # between two of them, or two handfuls: 50 a second are a spread that nobody tells from an even one
DRIFT_S = 5.0  # how often the kernel's rules are compared with the plan, besides after every change seen
REPAIR_SAY_S = 2.0  # a repair that takes longer is told in log and `status`: those of iptables take a busy host seconds
ADDRESSES_PER_LOOK = 20_000  # captured addresses that each DRIFT_S may compare: 0.1 s, as nft takes 5 us to list one
AUTHORITY_BYTES = 64  # of what a peer asks for, as rows show it: an address has at most 47, and its peer chooses the text
SERVER_NAME_BYTES = 255  # in a hello that anybody may send: a name of DNS has no more, nor have our own
ERROR_CHARS = 1000  # of a row's sentence: what a peer or a library said in it has its own, smaller, limit
RECORDS_PER_BATCH = 512  # records a worker sends at once
RECORDS_QUEUED = 16_384  # beyond, records are counted as dropped: a log never stops traffic
RECORDS_S = 0.1  # how often a worker sends its records
LOG_LINES_QUEUED = 10_000  # 5 MB of lines that wait for a disk or a journal; beyond, lines are dropped and counted
STDERR_BYTES_QUEUED = 256 * 1024  # the same in processes without a thread for it, which write little: 1,500 lines
LOG_FAREWELL_S = 2.0  # what is queued gets this long to be written when a process ends
FLOOD_LINES = 200  # log lines a minute for refusals of nobody known from one address: journald keeps 10,000 of us in 30 s
FLOOD_SOURCES = 1000  # addresses told apart for that; those beyond share one count
CLOSED_KEPT = 1000  # closed connections that control remembers for `nodeagent connections --closed`
FLOW_CLIENTS = 100  # senders of clear text to one address that are told apart: the rest are one flow
FLOWS_KEPT = 10_000  # who called whom, for `nodeagent enforce`: 0.3 KiB each; a host has some hundred
FLOW_AGE_S = 30 * 86_400.0  # a monthly job is seen once in this
FLOWS_SAVE_S = 60.0  # what a crash may cost of them

# --- control plane -------------------------------------------------------------------------------------------------

CATALOG_CONNECT_S = 5.0
CATALOG_READ_MARGIN_S = 15.0  # beyond wait + wait/16
CATALOG_BODY_BYTES = 64 * 1024 * 1024
CATALOG_LONG_BYTES = 1024 * 1024  # of an answer; one at a time is read beyond that, so that all together stay near CATALOG_BODY_BYTES
CATALOG_BACKOFF_MIN_S = 0.2
CATALOG_BACKOFF_MAX_S = 15.0
CATALOG_RATE_PER_S = 1.0  # steady answers of one watch; bursts of CATALOG_BURST go through at once
CATALOG_BURST = 5
CATALOG_CONNECTIONS = 150  # to one Consul agent, whose own default is 200 per client address
CATALOG_WATCHES = 130  # long polls that control keeps open; the rest of CATALOG_CONNECTIONS is for writes and polls
CATALOG_WATCHES_AT_START = 34  # of those at first: a Consul agent counts what a predecessor asked until its wait is over (control/room)
CATALOG_POLL_S = 15.0  # services beyond CATALOG_WATCHES are read this often instead of watched, all in one answer
CATALOG_ALONE = 20  # new services beyond CATALOG_WATCHES that are read by themselves at once: of more all are read anew
CATALOG_DIALLED_S = 3600.0  # since it was called last: a service that is used each hour stays among those that are watched
FIRST_USE_S = 2.0  # for news of a port where nobody is known: two questions take milliseconds, to compile 10,000 services some hundred
FIRST_USE_LOST_S = 3.0  # after which a worker no longer waits for control, which answers within FIRST_USE_S whatever the catalog does
FIRST_USE_AGAIN_S = 1.0  # after which it is asked again: a caller may try until somebody is there, and many call ports that nobody registers
FIRST_USE_REST_S = 5.0  # in which nobody waits for news that did not come in time; for none at all where control or catalog hangs
FIRST_USE_WAITING = 256  # ports that one worker asks for at once: who scans is served by what is known
FIRST_USE_OF_HOST = 64  # of them, of one host: names that peers make up, and who scans one machine, keep nobody from the others
FIRST_USE_CALLS = 1000  # that wait for one of them: each is an open connection, and further ones are decided by what is known
FIRST_USE_KEPT = 4096  # ports of which it remembers that it has asked, and calls of all workers that wait for news of one host
FIRST_USE_HOSTS = 8  # that wait for their turn: the last gets it in 0.4 s, and calls to others are not kept waiting
FIRST_USE_AT_ONCE = 4  # questions: with CATALOG_WATCHES, SVID_ASKS and LEAF_WAITS within CATALOG_CONNECTIONS
FIRST_USE_PER_S = 20.0  # hosts asked about, after FIRST_USE_BURST at once: each costs agent and catalog a millisecond
FIRST_USE_BURST = 40
FIRST_USE_HERE_PER_S = 2.0  # this host itself, after FIRST_USE_HERE_BURST: whoever reaches an agent may name any service, and needs no certificate
FIRST_USE_HERE_BURST = 4
FIRST_USE_SERVICES = 8  # at one port of a host, one for each of its addresses
CATALOG_DEAD_S = 20.0  # a connection to the catalog whose far end says nothing to keepalive probes
CATALOG_PULSE_WAIT_S = 30.0  # the watch of the hosts asks at least this often: its answers show that the catalog lives
CATALOG_PULSE_S = 1.0  # and, while the catalog is away, tries again this often and wakes the others
CATALOG_COMPLAIN_S = 60.0  # the same complaint about the catalog is logged once in this time
CATALOG_SETTLE_S = 30.0  # for so long after an outage it may be unknown whether the catalog is an older one: all that is asked is answered within a poll
ALARMS_SHOWN = 20  # of what is held back `status` names so many, and how many more there are: an older catalog may lack thousands of services
REWIND_SHOWN_S = 600.0  # `status` says for so long that the catalog's index went back
CATALOG_LOST_S = 10.0  # without an answer for this long `status` says that changes do not arrive
MARKER_SHOWN_S = 5.0  # a Consul agent tells its servers within milliseconds what it was told itself
HOLD_BACK_S = 300.0  # an answer that lost more than half of a service's instances
HOLD_BACK_INSTANCES = 3  # fewer are started and stopped by hand, and "more than half" of two is one of them
COMPILE_S = 0.02  # changes within this are compiled together
SVID_TTL_S = 24 * 3600.0
SVID_RENEW_RETRY_MAX_S = 150.0  # as ztunnel
CLOCK_SKEW_S = 60.0  # by which clocks of two hosts may differ, as much as the CA backdates
CLOCK_SKEW_SHARE = 0.25  # of what a tunnel has to live, where that is short: as the CA's BACKDATED_SHARE
CLOCK_LOOK_S = 1.0  # how often the wall clock is compared with the monotonic one: what a jump ended is renewed in seconds
CLOCK_JUMP_S = 2.0  # more than any slewing or busy loop makes of a second
HELD_S = 1.0  # changes of what a host holds within this are told to the CA together
HELD_AGAIN_S = 300.0  # it is told again, and a CA that failed to store it is: a read of a few rows where nothing is new
SVID_ASKS = 8  # certificate requests in flight at the CA
LEAF_WAIT_S = 2.0  # Connect's local agent makes a new certificate within milliseconds where the one that we hold is due
LEAF_WAITS = 4  # at once: with CATALOG_WATCHES and SVID_ASKS within CATALOG_CONNECTIONS
LEAF_AGAIN_S = 15.0  # and is asked again where it was not due yet; at the latest, where it gives none: a right that was granted is seen so soon
SVID_REFUSED_S = 5.0  # a worker's question for a certificate that was refused is not asked again before
SVID_ON_DEMAND = 1000  # certificates held for units that workers asked for; beyond, the request is refused, unless one is idle
SVID_IDLE_S = 300.0  # since its last call: one that was refused is a problem no more, one that was issued may make room for another
SVID_IDLE_LOOK_S = 5.0  # how often control looks for those
LAST_GOOD_S = 1.0  # the saved snapshot may be this much older than the one in force: a disk is slower than a catalog
API_BODY_BYTES = 1024 * 1024
API_ROWS = 1000  # rows of a listing unless the caller asks for more
API_ROWS_MAX = 20_000  # rows of a listing, whatever the caller asks for
API_CONNECTIONS = 32  # open at the admin socket, and as many at the metrics port
API_CONNECTION_S = 30.0  # the whole life of one of them: a caller that does not ask or read is cut
API_LINGER_S = 1.0  # for a caller to read why it was refused, while what it still sends is thrown away
API_ASK_S = 2.0  # what a worker gets to list its connections
API_ANSWER_S = 5.0  # a command's patience: API_ASK_S for the workers, and a busy host; after ALIVE_S of silence traffic counts an agent as hung, too
API_TELL_S = 10.0  # where something is changed, which a slow disk may do after its caller has given up
METRIC_PAIRS = 2000  # (source, destination) label pairs; beyond, both are `other`
ENTRY_BYTES = 1024 * 1024  # a config entry or KV value; Consul's KV limit is 512 KiB
BLOCKING_PER_TOKEN = 1024  # blocking queries open at the embedded catalog for one token

# --- doctor ----------------------------------------------------------------------------------------------------------

CHECK_S = 20.0  # for all looks together, side by side; what is not known by then is told as such
CHECK_ANSWER_S = 5.0  # of the catalog to one question
CHECK_PEER_S = 3.0  # of a peer: a handshake takes milliseconds
CHECK_SOCKETS = 500_000  # of each family that one check counts: some seconds; a host with more is near its other limits
CHECK_PEERS = 32  # peers that one check shakes hands with: each logs it, and every host of a large mesh is checked
BUNDLE_PART_BYTES = 4 * 1024 * 1024  # one of twenty parts of a support archive, before it is compressed
STATE_ROOM_BYTES = 16 * 1024 * 1024  # a snapshot of 10,000 services is 5 MB, and is written beside the old one
MEMORY_LOW_BYTES = 128 * 1024 * 1024  # an agent with two workers and a spare holds about 150 MiB; below this one more fails

# --- lab -----------------------------------------------------------------------------------------------------------

LAB_HOSTS = 100  # an agent with two workers and a spare holds about 150 MiB
LAB_LOCK_S = 30.0  # how long a lab command waits for another one
LAB_KILL_S = 10.0  # what the kernel gets to end killed processes
LAB_STOP_S = 5.0  # a service's grace between SIGTERM and SIGKILL
LAB_START_S = 30.0  # a catalog or agent that is not healthy after this has failed: both take about one second
LAB_SAY_S = 2.0  # of silence; then a command, of the lab or not, says what it waits for
LAB_ENDED_S = 1.0  # a command that fails at once (a typing error, a missing file) has ended within this
LAB_LISTEN_MORE_S = 0.5  # a server opens its addresses within milliseconds of one another
LAB_LOOPBACK_S = 3.0  # who listens on loopback alone for so long listens nowhere else
LAB_PORT_S = 30.0  # a service that does not listen after this has failed: PostgreSQL takes about two seconds
LAB_SETTLE_S = 10.0  # a change reaches every agent within a second
LAB_LOG_LINES = 15  # of a log that an error message shows

# --- what one catalog answer may hold: a poisoned catalog must not take all memory or time ---------------------------

CATALOG_HOSTS = 20_000  # twice the largest Consul cluster that its makers tested
CATALOG_SERVICES = 20_000
CATALOG_INSTANCES = 10_000  # of one service
CATALOG_LEFT = 10_000  # ids that have left their services, remembered by the service: who takes one up again is not the first at a port
CATALOG_MARKERS = 20_000  # one of each host; in 64 MiB a row of Consul's with its checks may have 3 KiB
CATALOG_INTENTIONS = 200_000  # sources of all entries together
INTENTION_PROOFS = 20  # services whose intentions vanished at once that the catalog is asked for again, one by one
SERVICE_PROOFS = 64  # services that vanished at once that Consul is asked for one by one, by a token that may not read every service
CATALOG_NAME_CHARS = 253  # a DNS name's length; Consul's names are at most 128
WEIGHT_MAX = 65_535  # as Consul
SWITCH_S = 0.001  # until a thread beside a loop gives it a turn; Python's own 5 ms come again with each time that the loop waits
DECODE_ROWS = 250  # services or index rows decoded before a worker's loop gets its turn: about 1 ms

# --- policy: what files and catalogs say of it ------------------------------------------------------------------------

POLICY_TEXT_CHARS = 2048  # of one text in an entry: a path, a pattern, a filter
POLICY_ROWS = 10_000  # of one list in an entry: a service that every other may call by name has as many sources
POLICY_NODES = 50_000  # values in one entry: each is looked at in Python, 1 s
POLICY_DEPTH = 64  # of what is kept unread; what is read is nine deep at most
POLICY_FAULTS = 100  # told of one entry: whoever has more mends these first
PATTERN_CLASSES = 16  # of Unicode in one pattern, of an entry or a filter: each has 600 ranges, and 600 classes take 50 ms to compile
POLICY_PATTERNS = 256  # different ones in one entry: to compile one takes some 10 us, or, where it is meant to, 4 ms
POLICY_PATTERN_BYTES = 256 * 1024  # of memory for one compiled pattern: 12,000 steps, Envoy warns beyond 100
POLICY_PATTERNS_KEPT = 4096  # of which it is remembered whether they are sound: 8 MiB, or 32 of the widest characters
POLICY_FILE_BYTES = 16 * 1024 * 1024  # a mesh of 10,000 services has 5 MB of intentions; YAML takes 1 s a megabyte
POLICY_DOCUMENTS = 20_000  # in one file: one for each service
POLICY_FILES = 20_000  # below the directories that one command names
POLICY_CHANGES = 50  # remembered of one entry: who changed it, when, from what to what
POLICY_TRAIL_BYTES = 256 * 1024  # of them together, in one value of the KV store; Consul's limit is twice that
POLICY_TRAILS = 10_000  # entries whose changes are remembered, deleted ones included; beyond, those go that rested longest
POLICY_TRAILS_ASKED = 64  # at once: of 512 KiB each, Consul's limit, they fit into CATALOG_BODY_BYTES
POLICY_BUSY_S = 1.0  # a catalog that takes no more writes of one token for now gets this: CATALOG_WRITES_PER_S are free again then
POLICY_BUSY_TRIES = 60  # in a row, for one write: it is another who fills the room
POLICY_HINTS = 100  # unknown names for which one that was meant is looked for: among 10,000 services each takes 50 ms
POLICY_HOPS = 64  # of a chain of redirects, which is refused beyond, and of splits to be put in order: longer than any that is meant
POLICY_WAY = 16  # names of a circle that is shown; of a longer one both ends

# --- embedded catalog ----------------------------------------------------------------------------------------------

CATALOG_WAIT_MAX_S = 600.0  # as Consul: a longer `wait` becomes this
CATALOG_BODY_S = 30.0  # for a request's body to arrive: a slow sender must not hold a handler for ever
CATALOG_IDLE_S = 75.0  # a connection without a whole request is closed, as nginx does: idle strangers hold no descriptor
CATALOG_TLS_BUFFER_BYTES = 32 * 1024  # two records; asyncio's own 256 KiB for each of 1,000 watches would be 256 MB
CATALOG_ROWS = 100_000  # hosts, instances, entries, values, tokens, each: ten times what the agents are built for
CATALOG_SERVICES_PER_HOST = 1000  # one stolen host token must not fill the table
CATALOG_LOCK_S = 5.0  # the command line and the server write the same database; each write takes milliseconds
CATALOG_TLS_CHECK_S = 2.0  # how often the server looks whether its certificate is due or was replaced: a clock may jump
CATALOG_STOP_S = 2.0  # SIGTERM: blocking queries answer at once, other requests take milliseconds
META_PAIRS = 64  # of one host or service, as Consul
META_KEY_BYTES = 128  # as Consul
META_VALUE_BYTES = 512  # as Consul
TAGS = 64  # of one service
KV_KEY_BYTES = 1024
CATALOG_OTHERS_S = 0.5  # how often the server looks for what the command line wrote beside it: agents hear within a second
CA_TOLD_S = 10.0  # `ca rotate` waits so long for hosts to hear of a step, which takes connected ones a second or two
CA_LOOK_S = 0.25  # and looks this often
CERTIFIED_PER_TOKEN = 4096  # services that one token holds certificates for: what a host runs, and SVID_ON_DEMAND
REVOKED_KEPT_S = 7 * 86_400.0  # agents are told of a revoked token this much longer than its certificates live: one that was
# away for a week may still carry connections that they opened
TTL_MAX_S = 6 * 86_400.0  # longest life: below REVOKED_KEPT_S, so that what is signed in the moment of a revocation ends with it
TTL_MIN_S = 4.0  # shortest life of an SVID, for rehearsals: certificates count whole seconds, below it is due at birth
CATALOG_SPECS = 10_000  # entries that the catalog keeps decoded, to check others against them: each is looked at in Python, 0.2 ms
CATALOG_MEANWHILE = 16  # entries that changed while one was checked beside the writer, looked at in its turn: up to 10 ms each with 10,000
CATALOG_LOOKS = 3  # such checks of one write, where more than that changed, or something went; then it is made in the write's turn
CATALOG_SPEC_BYTES = 1024  # of one that is kept so, three times a usual one
CATALOG_ROW_BYTES = 2048  # a host or service, five times a usual one: agents read 10,000 instances in one answer
CATALOG_FAILURES_S = 60.0  # between two lines about one kind of failure of the disk, and without any until it is well: agents and checks try some 30 times a second
CATALOG_CHECKED_BYTES = 512 * 1024 * 1024  # a database that is looked through at the start: 40 MiB, 50,000 instances, take 0.12 s
CATALOG_ASIDE = 2  # threads for what would hold up the loop: no token has more than one of them at a time
CATALOG_COLLECT = 100  # of Python's smaller collections for a whole one, which holds up all threads: 40 ms in each list of 10,000 rows
CATALOG_ASIDE_WAITING = 64  # requests of one token that wait for that, with bodies of ENTRY_BYTES
BODY_ITEMS = 10_000  # in one list or object of a body but an entry's: ten times what any has
CATALOG_BODY_AT_ONCE_BYTES = 16 * 1024  # a body up to this is parsed in the loop, in 2 ms at most; 1 MiB of `{},{},` takes 150 ms
CATALOG_WRITES_PER_S = 50.0  # of one token; each is an fsync, and a disk does some hundreds a second
CATALOG_WRITES_BURST = 2500  # at once: a host that starts registers 1,000 services and asks for 1,000 certificates
CHECKS_PER_SERVICE = 16  # of one instance, or of one host; usually there is one
CHECK_DUTIES = 16_016  # that an agent takes: CHECKS_PER_SERVICE of CATALOG_SERVICES_PER_HOST and of the host itself
CHECK_TEXT_CHARS = 1024  # a URL, a header, a note
CHECK_OUTPUT_BYTES = 512  # of what the application said, as JSON: agents read the checks of 10,000 instances in one answer
CHECK_INTERVAL_MIN_S = 1.0  # as Consul advises: more often is load, and no one acts faster
CHECK_INTERVAL_MAX_S = 86_400.0
CHECK_TIMEOUT_MAX_S = 60.0  # an application that needs longer to say that it is well is not
CHECK_LOOKS_PER_S = 200.0  # of one host, all together: by HTTP 3 % of a core, by TLS with new handshakes a fifth
CHECK_TELLS_PER_S = 25.0  # new statuses told the catalog, half of CATALOG_WRITES_PER_S: the host asks for certificates by the same token
CHECK_TELLS_BURST = 1000  # at once, as when a host with CATALOG_SERVICES_PER_HOST comes back
CHECK_LOOKS = 256  # at once, of one host: a socket each
CHECK_LATE_LOOKS = 64  # of them at applications that did not answer in time before: those must not keep others from their turn
CHECK_SPREAD_S = 1.0  # within which an agent that starts begins to look
CHECKS_UNSERVED_S = 60.0  # a catalog that has no checks for agents, as Consul, is asked again: it may have been replaced
CHECK_EXPIRY_S = 0.5  # how often the catalog looks for who did not say in time that it is well
CHECK_BEAT_S = 20.0  # an agent that looks at something asks what to look at this often: so the catalog knows that somebody looks
CHECK_SILENT_S = 40.0  # after such a question's wait: longer than an agent rests after failures, or is away while it is restarted
CHECK_SILENT_LOOK_S = 5.0  # how often the catalog looks for agents that are silent
CHECK_STALL_S = 2.0  # between two such looks: more means that the catalog itself was kept from its turn
CHECK_OUTPUT_S = 300.0  # words that say nothing new of the status are stored this often, as Consul's check_update_interval
FILTER_CHARS = 4096  # of `?filter=`
FILTER_DEPTH = 32  # of parentheses and `not`
FILTER_MATCHES = 32  # comparisons; each takes half a microsecond a row
FILTER_PATTERN_BYTES = 256 * 1024  # what RE2 may take for one pattern of them
FILTER_PATTERNS = 8  # of the comparisons: to compile one may take 4 ms
FILTER_PROGRAM = 1000  # steps of all patterns together: a usual one has ten to fifty, and each may be gone for each character
FILTER_STEPS = 1_500_000_000  # in one list: half a second, beside the loop; 1000 steps for 10,000 rows of 150 characters
FILTERS_KEPT = 256  # of subsets, compiled: of 1000 steps each, some 30 MB at worst
FILTER_FAULTS_KEPT = 4096  # of subsets, what is wrong with them: 16 MB at worst
SUBSETS = 64  # of one service: each is asked about each of its instances
SUBSET_STEPS = 12_500_000  # for the filters of all of them, counted as FILTER_STEPS: 0.2 s, by the worst pattern, that nothing else is done in
SUBSET_ROW_STEPS = 250  # that an instance takes without patterns: five subsets of 10,000 are within SUBSET_STEPS
TOKEN_ADDRESSES = 64  # addresses and CIDRs that one host's token names
