"""A check in a forked process, beside the others: it shares what was read of the results."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import Connection

from georecon.audit.findings import Context, Finding

Check = Callable[[Context], Iterable[Finding]]


def beside(context: Context, check: Check) -> Iterator[Finding]:
    """Start a check now; its findings, once they are asked for, as if it had run then.

    Raises:
        RuntimeError: the process ended without an answer (when findings are asked for).
    """
    fork = multiprocessing.get_context("fork")
    receiver, sender = fork.Pipe(duplex=False)
    process = fork.Process(target=_answer, args=(sender, context, check), daemon=True)
    process.start()
    sender.close()

    def findings() -> Iterator[Finding]:
        with receiver:
            try:
                found, checked, unchecked = receiver.recv()
            except EOFError:
                process.join()
                text = f"a check beside the others ended with exit code {process.exitcode}"
                raise RuntimeError(text) from None
        process.join()
        context.checked += checked
        context.unchecked += unchecked
        yield from found

    return findings()


def _answer(sender: Connection, context: Context, check: Check) -> None:
    """In the process: findings, and what the check noted in the context beside them."""
    context.checked.clear()
    context.unchecked.clear()
    found = list(check(context))
    sender.send((found, context.checked, context.unchecked))
    sender.close()
