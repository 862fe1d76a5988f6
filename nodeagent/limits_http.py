"""The numbers that bound HTTP: what a request may cost, where it may go, and how often. Read as those of `limits`."""

# --- routing of requests -------------------------------------------------------------------------------------------

REQUEST_HOPS = 16  # agents that a request may have passed, where applications pass the count on: no call is meant to go so deep
HEADER_NAMES_KEPT = 1024  # of which it is remembered whose they are: applications have some dozen; 64 KiB
CHAIN_LEGS = 1000  # ways of one route, splits of splits multiplied: 100 percent have 10,000 hundredths, and nobody looks at so many
CHAIN_LOOKS = 10_000  # at services and splits, for all routes of a service, two for a plain one: 0.2 s of a worker, in which it serves nobody
RETRIES = 10  # of one request: beyond, the budget is spent on one
RETRY_BASE_S = 0.025  # before the first; as Envoy
RETRY_MAX_S = 0.25  # before any
RETRY_RATIO = 0.2  # of the requests of RETRY_TTL_S, as Envoy and Finagle
RETRY_MIN_PER_S = 3.0  # in any case: services of which hardly a request comes
RETRY_TTL_S = 10.0  # as Finagle
RETRY_BODY_BYTES = 64 * 1024  # of a request that is kept to be sent again
BREAKER_CALLS = 1024  # connections, waiting requests and requests at once to one service: Envoy's, where nothing is said
EJECT_FAILURES = 5  # in a row, of one instance; this and the next three are Envoy's and so Consul's
EJECT_S = 30.0  # times the ejections so far
EJECT_MAX_S = 300.0
EJECT_PERCENT = 10  # of the instances at most; one in any case, of several
EJECT_INTERVAL_S = 10.0  # so long without a failure takes one ejection back
DISPATCH_LANES = 4096  # callers and targets of which a worker knows who is busy and who failed: a host's services times those they call
SHARED_ROWS = 256  # of one message between a worker and control about ejections and bounds: the rest is for the next one
SHARED_BOUNDS = 8192  # that control leases: two of each of DISPATCH_LANES; of more, one of which nobody wants anything is forgotten
SHARED_EJECTIONS = 4096  # that control remembers for who asks: workers have their own
SHARE_S = 0.02  # between two messages of a worker about its parts: they are asked for ahead, and one says what many requests need
LEASE_WAIT_S = 0.3  # a request waits so long for a part of a bound that control may lease: it takes a millisecond, unless control is busy
LEASE_MUTE_S = 1.0  # of a control that was asked and has said nothing: the worker goes on with its static share
LEASE_AGAIN_S = 1.0  # after one that waited in vain, others do not, unless the worker has no part at all
PENDING_S = 5.0  # a request waits so long for a connection of those that its caller may have: as long as for one that is opened
LEAST_CHOICES = 16  # instances looked at for one request; two are usual, and more buy hardly anything
RING_POINTS_MIN = 1024  # of hashes; Consul's
RING_POINTS_MAX = 8192
MAGLEV_SIZES = (4093, 16_381, 65_521)  # places of a table, primes: some 100 for each instance; the last takes 50 ms to make

# --- HTTP/1.1 messages ---------------------------------------------------------------------------------------------

HTTP_HEAD_BYTES = 64 * 1024  # a head is held whole: as Envoy's 60 KiB; nginx takes 32, Node 16, and cookies of 8 are seen
HTTP_LINE_BYTES = 16 * 1024  # of it the request's line, which is its target: twice what browsers and nginx take
HTTP_FIELDS = 128  # of a head, or of trailers: as Go's habit and Apache's 100; each is looked at by itself
HTTP_TRAILER_BYTES = 8 * 1024  # they come after the body and are held whole: checksums and statuses
HTTP_CHUNK_LINE_BYTES = 256  # a chunk's length with its extensions: what signs chunks needs 90
HTTP_EXTENSION_BYTES = 64 * 1024  # extensions of one body, of which nothing goes on; chunks of a byte could have 250 each
HTTP_INTERIMS = 32  # answers of 1xx before the last: each keeps a silent exchange alive, and one or two are usual

# --- the data plane ------------------------------------------------------------------------------------------------------------

HTTP_HEAD_S = 10.0  # from the first byte of a request's head to its last: a slow one holds a place for longer otherwise
HTTP_IDLE_S = 300.0  # without a byte either way, between requests or within one, as the answer to come; then it ends
HTTP_LINGER_S = 5.0  # an answer that ends the connection gets this to be read by a client that still sends; as nginx
HTTP_UNREAD_BYTES = 64 * 1024  # of a body that nobody wants: read for the connection's sake; beyond, the connection ends
HTTP_KEPT_BYTES = 64 * 1024  # of a request's body are kept for another try, as in Envoy and linkerd
HTTP_TRIES = 3  # connections that one request may be given, where none certainly began on it
ORIGIN_IDLE_S = 90.0  # a connection to an instance that no request uses is kept: below HTTP_IDLE_S of the agent at its other end
ORIGINS_IDLE = 64  # of one caller service to one address: as many requests at once are usual; beyond, they are closed
ORIGINS_IDLE_ALL = 1024  # of a worker; beyond, the one that has rested longest is closed
REQUEST_RULES = 1024  # of pairs of services, made ready in one worker: a host's services and their callers; the one made first goes
REQUEST_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)  # bounds of the histogram: of a hop to what waits for a person
METRIC_ROUTES = 2000  # (source, destination, route) in metrics; beyond, all of it is `other`
ROUTE_LABEL_CHARS = 64  # `Routes[12]` and such
REQUEST_METHOD_BYTES = 32  # that a row shows: the longest that is registered has 17
REQUEST_PATH_BYTES = 256  # of a target that a row shows
