"""The numbers that bound HTTP: what a request may cost, where it may go, and how often. Read as those of `limits`."""

# --- routing of requests -------------------------------------------------------------------------------------------

REQUEST_HOPS = 16  # agents that a request may have passed, where applications pass the count on: no call is meant to go so deep
HEADER_NAMES_KEPT = 1024  # of which it is remembered whose they are: applications have some dozen; 64 KiB
CHAIN_LEGS = 1000  # ways of one route, splits of splits multiplied: 100 percent have 10,000 hundredths, and nobody looks at so many
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
LEAST_CHOICES = 16  # instances looked at for one request; two are usual, and more buy hardly anything
RING_POINTS_MIN = 1024  # of hashes; Consul's
RING_POINTS_MAX = 8192
MAGLEV_SIZES = (4093, 16_381, 65_521)  # places of a table, primes: some 100 for each instance; the last takes 50 ms to make
