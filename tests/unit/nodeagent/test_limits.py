"""Numbers that must fit one another."""

from pathlib import Path

from nodeagent import limits


def test_limits_that_depend_on_each_other_agree() -> None:
    """A change of one that breaks another is seen here."""
    low, high = limits.UPSTREAM_PORTS
    assert 1024 <= low < high < 32_768
    assert limits.PREPARED_LOW < limits.PREPARED_MAX
    assert limits.LOCAL_CONNECT_S < limits.CONNECT_S
    assert limits.PING_S < limits.PING_TIMEOUT_S < limits.SESSION_IDLE_S
    assert limits.SESSIONS_PER_KEY * limits.STREAMS_PER_SESSION >= limits.CONNECTIONS_PER_WORKER
    assert limits.CATALOG_BACKOFF_MIN_S < limits.CATALOG_BACKOFF_MAX_S
    assert limits.RESTART_MIN_S < limits.RESTART_MAX_S < limits.RESTART_RESET_S
    assert limits.BEAT_S < limits.ALIVE_S
    assert limits.FIRST_USE_S < limits.FIRST_USE_LOST_S < limits.HANDSHAKE_S
    assert limits.CHECKS_PER_SERVICE * (limits.CATALOG_SERVICES_PER_HOST + 1) == limits.CHECK_DUTIES
    assert limits.CHECK_TELLS_PER_S < limits.CATALOG_WRITES_PER_S
    assert limits.CHECK_TELLS_BURST < limits.CATALOG_WRITES_BURST
    assert limits.CATALOG_BACKOFF_MAX_S + limits.CATALOG_CONNECT_S + limits.CATALOG_READ_MARGIN_S < limits.CHECK_SILENT_S
    assert limits.FEED_BYTES <= limits.STREAM_QUEUE_BYTES <= limits.STREAM_WINDOW_BYTES


def test_whoever_comes_while_the_switch_holds_is_ended_within_five_seconds() -> None:
    """The first, who comes right after those who serve were heard, and the last; and one late beat makes the sentry look at nothing.

    A worker that hangs is replaced before. One that SIGKILL does not end is given up later, so who waits for it is ended, but
    before the switch falls, which the last beat holds that came within ANSWER_S.
    """
    begins_s = limits.ALIVE_S - limits.SENTRY_AHEAD_S
    killed_s = limits.HUNG_S + limits.LATE_BEAT_S
    given_up_s = killed_s + limits.KILLED_S + limits.LATE_BEAT_S
    assert killed_s < begins_s < 5
    assert begins_s < killed_s + limits.KILLED_S
    assert given_up_s + limits.LATE_BEAT_S < limits.ANSWER_S - limits.LATE_BEAT_S + limits.ALIVE_S
    assert limits.SENTRY_PATIENCE_S + 2 * limits.SENTRY_LOOK_S < 5
    assert begins_s - limits.SENTRY_PATIENCE_S >= 3 * limits.BEAT_S


def test_whoever_waits_where_nobody_serves_while_others_do_is_reset_within_five_seconds() -> None:
    """But not before a worker that hangs is replaced; and it is no place to call empty where a successor that was born in time serves."""
    assert limits.HUNG_S + limits.LATE_BEAT_S + limits.HEAR_S < limits.LEFT_S
    assert limits.LEFT_S + limits.LEFT_GRACE_S < 5
    assert limits.SENTRY_ALONE_PATIENCE_S + limits.SENTRY_LOOK_S + limits.LEFT_HELD_S < 5


def test_whoever_comes_without_a_supervisor_is_ended_within_five_seconds() -> None:
    """By a sentry that is alone: also who comes last before the switch falls that a reload has left."""
    longest_s = limits.SENTRY_ALONE_PATIENCE_S + 2 * limits.SENTRY_LOOK_S
    assert limits.SENTRY_PATIENCE_S < longest_s < 5
    assert limits.ALIVE_S < limits.REPLACED_S < limits.SENTRY_ALONE_S - longest_s


def test_the_service_manager_keeps_all_that_the_next_supervisor_wants() -> None:
    """Listeners, keys and marks, and a lifeline of every worker: of each generation, of one that is being born, and of spares."""
    workers = limits.WORKERS_MAX * (limits.GENERATIONS + 1) + limits.SPARES
    assert 6 * limits.WORKERS_MAX + 2 + workers <= limits.STORED
    unit = Path(__file__).parents[3] / "systemd" / "nodeagent.service"
    assert f"FileDescriptorStoreMax={limits.STORED}" in unit.read_text().splitlines()


def test_every_limit_bounds_something() -> None:
    """Zero or less would switch a part off by accident."""
    numbers = {name: value for name, value in vars(limits).items() if name.isupper()}
    assert {name for name, value in numbers.items() if not isinstance(value, tuple) and value <= 0} == set()
