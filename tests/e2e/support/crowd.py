"""Many connections open at once, each with words of its own that must come back.

Usage: crowd.py serve PORT             echoes; prints "ready"
       crowd.py call IP PORT COUNT CANARY
       crowd.py short IP PORT COUNT CANARY    opens, has echoed and closes so many, and prints what became of them as JSON
The caller prints "open N" when all are connected and echoed, waits for a line, has all echoed again and closes them: "closed N".
"""

import asyncio
import json
import resource
import sys
from collections import Counter

AT_ONCE = 256
DEADLINE_S = 120


async def serve(port: str) -> None:
    """Echoes until it is killed."""
    server = await asyncio.start_server(_echo, None, int(port), backlog=4096)
    print("ready", flush=True)
    await server.serve_forever()


async def call(ip: str, port: str, count: str, canary: str) -> None:
    """All of them, twice."""
    gate = asyncio.Semaphore(AT_ONCE)
    async with asyncio.timeout(DEADLINE_S):
        ends = await asyncio.gather(*(_open(gate, ip, port) for _ in range(int(count))))
        print(f"open {await _talk(ends, canary, 'first')}", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        talked = await _talk(ends, canary, "last")
        for _, writer in ends:
            writer.close()
        await asyncio.gather(*(writer.wait_closed() for _, writer in ends))
        print(f"closed {talked}", flush=True)


async def short(ip: str, port: str, count: str, canary: str) -> None:
    """Each for itself: how many had their words back and were closed by the other side in turn, or why not."""
    gate = asyncio.Semaphore(AT_ONCE)
    async with asyncio.timeout(DEADLINE_S):
        ends = await asyncio.gather(*(_live(gate, ip, port, f"{canary} {number}\n") for number in range(int(count))))
    print(json.dumps(Counter(ends)), flush=True)


async def _live(gate: asyncio.Semaphore, ip: str, port: str, text: str) -> str:
    async with gate:
        try:
            reader, writer = await asyncio.open_connection(ip, int(port))
            writer.write(text.encode())
            writer.write_eof()
            answer = await reader.read()
            writer.close()
            await writer.wait_closed()
        except OSError as error:
            return type(error).__name__
    return "answered" if answer == text.encode() else "other words"


async def _open(gate: asyncio.Semaphore, ip: str, port: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    async with gate:
        return await asyncio.open_connection(ip, int(port))


async def _talk(ends: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]], canary: str, word: str) -> int:
    """How many brought back what they were given."""
    texts = [f"{canary} {word} {number}\n".encode() for number in range(len(ends))]
    for (_, writer), text in zip(ends, texts, strict=True):
        writer.write(text)
    answers = await asyncio.gather(*(reader.readline() for reader, _ in ends))
    return sum(answer == text for answer, text in zip(answers, texts, strict=True))


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while line := await reader.readline():
        writer.write(line)
    writer.close()


if __name__ == "__main__":
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    asyncio.run({"serve": serve, "call": call, "short": short}[sys.argv[1]](*sys.argv[2:]))
