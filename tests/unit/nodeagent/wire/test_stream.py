"""One stream's queue, by itself."""

from nodeagent.wire.stream import Budget, Headers, Stream


class Owner:
    """A session that only remembers."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, object]] = []

    def respond(self, stream: Stream, headers: Headers, *, end: bool) -> None:
        self.calls.append(("respond", end))

    def wrote(self, stream: Stream, size: int) -> None:
        self.calls.append(("wrote", size))

    def reset(self, stream: Stream, code: int) -> None:
        self.calls.append(("reset", code))

    def consumed(self, stream: Stream, size: int) -> None:
        self.calls.append(("consumed", size))


def test_chunks_are_cut_and_joined_to_size() -> None:
    """A large write is cut, small ones are joined, nothing is lost or reordered."""
    stream = Stream(Owner(), 1)
    for data in (b"a" * 10, b"b", b"c", b"d" * 3):
        stream.write(data)
    assert [stream.next_chunk(4) for _ in range(4)] == [b"aaaa", b"aaaa", b"aabc", b"ddd"]
    assert stream.queued == 0


def test_it_is_ending_only_when_all_was_taken() -> None:
    """The end waits for what is queued before it."""
    stream = Stream(Owner(), 1)
    stream.write(b"x")
    stream.write_eof()
    assert not stream.is_ending
    stream.next_chunk(10)
    assert stream.is_ending


def test_nothing_is_written_after_the_end() -> None:
    """A write after write_eof is dropped."""
    owner = Owner()
    stream = Stream(owner, 1)
    stream.write_eof()
    stream.write(b"late")
    assert (stream.queued, owner.calls) == (0, [("wrote", 0)])


def test_a_closed_stream_asks_its_session_for_nothing() -> None:
    """And says how much it had held."""
    owner = Owner()
    stream = Stream(owner, 1)
    stream.write(b"xyz")
    stream.unread = 7
    assert stream.close() == 10
    owner.calls.clear()
    stream.consume(7)
    stream.reset()
    stream.respond([])
    stream.write(b"x")
    assert owner.calls == []


def test_a_budget_is_spent_at_its_limit() -> None:
    """Not before."""
    budget = Budget(limit=10)
    budget.used = 9
    assert not budget.is_spent
    budget.used = 10
    assert budget.is_spent


def test_whoever_watches_a_budget_hears_of_each_piece_beyond_it() -> None:
    """Up to the limit nobody need care."""
    said: list[int] = []
    budget = Budget(limit=10)
    budget.on_spent = lambda: said.append(budget.used)
    for size in (9, 1, 1, 5):
        budget.hold(size)
    assert said == [11, 16]
