"""An asyncio client and its tests, which need no plugin for asyncio."""

import asyncio


async def shout(host: str, port: int, line: str) -> str:
    """Send a line, and return the line that comes back.  Put your client here."""
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(f"{line}\n".encode())
    answer = await reader.readline()
    writer.close()
    await writer.wait_closed()
    return answer.decode().removesuffix("\n")


def test_many_at_once(netsrv_server):
    """Each of twenty concurrent clients gets its own line."""
    server = netsrv_server("echo")
    lines = [f"line {number}" for number in range(20)]

    async def all_of_them() -> list[str]:
        return await asyncio.gather(*(shout(server.host, server.port, line) for line in lines))

    assert asyncio.run(all_of_them()) == lines
    assert sorted(server.received) == sorted(f"{line}\n".encode() for line in lines)


def test_waiting_without_blocking_the_loop(netsrv_server):
    """The client sends when the server has accepted its connection."""
    server = netsrv_server("echo")

    async def client_and_watcher() -> str:
        reader, writer = await asyncio.open_connection(server.host, server.port)
        await server.async_wait_for_connections(1)
        writer.write(b"hello\n")
        answer = await reader.readline()
        writer.close()
        return answer.decode()

    assert asyncio.run(client_and_watcher()) == "hello\n"
