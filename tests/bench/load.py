"""The load generator, a process of its own: orders as JSON lines on stdin, one line of figures each on stdout."""

import gc
import sys

import msgspec
import uvloop

from tests.bench.clients import JsonRun, StreamRun
from tests.bench.orders import Failure, Figures, JsonOrder, Order, SoakOrder, StreamOrder
from tests.bench.soak_clients import SoakRun


async def carry_out(order: Order) -> Figures:
    """The order's figures, or what went wrong."""
    try:
        match order:
            case JsonOrder():
                return await JsonRun(order).measure()
            case StreamOrder():
                return await StreamRun(order).measure()
            case SoakOrder():
                return await SoakRun(order).measure()
    except TimeoutError:
        return Failure("no answer in time")
    except Exception as error:  # noqa: BLE001 - told to the measuring process, which stops loudly
        return Failure(f"{type(error).__name__}: {error}")


def main() -> None:
    """Until stdin ends."""
    # A collection of everything in the middle of a run would look like a pause of the gateway.
    gc.freeze()
    for line in sys.stdin.buffer:
        figures = uvloop.run(carry_out(msgspec.json.decode(line, type=Order)))
        sys.stdout.buffer.write(msgspec.json.encode(figures) + b"\n")
        sys.stdout.buffer.flush()
        gc.collect()


if __name__ == "__main__":
    main()
