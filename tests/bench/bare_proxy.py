"""The yardstick: the least that an aiohttp server and client can do to pass a request on. No features."""

import asyncio
import sys

import aiohttp
import uvloop
from aiohttp import web


async def serve(base: str) -> None:
    async with aiohttp.ClientSession(auto_decompress=False, connector=aiohttp.TCPConnector(limit=0)) as session:

        async def handle(request: web.BaseRequest) -> web.StreamResponse:
            passed = {name: request.headers[name] for name in ("Authorization", "Content-Type")}
            body = await request.read()
            async with session.request(request.method, base + request.path, data=body, headers=passed) as answer:
                response = web.StreamResponse(status=answer.status, headers={"Content-Type": answer.content_type})
                response.content_length = answer.content_length
                await response.prepare(request)
                async for chunk in answer.content.iter_any():
                    await response.write(chunk)
                await response.write_eof()
                return response

        server = web.Server(handle, access_log=None)
        listening = await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0, backlog=4096)
        print(f"bare proxy listening on http://127.0.0.1:{listening.sockets[0].getsockname()[1]}", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1]))
