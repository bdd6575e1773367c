"""Child processes: their ends are noticed, whoever else starts some."""

import pytest

from tests.uvreactor.program import beside, output_of

CHILDREN = """
ended = []

class Child(protocol.ProcessProtocol):
    def processEnded(self, reason):
        ended.append(reason.value.exitCode)

def spawn(command, **options):
    reactor.spawnProcess(Child(), "/bin/sh", ["sh", "-c", command], {}, **options)

def wait_for(count):
    began = time.monotonic()
    def look(done=None):
        if len(ended) >= count or time.monotonic() - began > 10:
            deferred.callback(None)
        else:
            reactor.callLater(0.01, look)
    deferred = defer.Deferred()
    look()
    return deferred

async def asyncio_child():
    child = await asyncio.create_subprocess_exec("/bin/true")
    return await child.wait()
"""

COMMANDS = ["exit 3", "exec >&- 2>&-; sleep 0.05; exit 3", "sleep 0.05; exit 3"]


@pytest.mark.parametrize("reactor", beside("asyncio"))
@pytest.mark.parametrize("pty", [False, True])
def test_f117_children_of_twisted_beside_those_of_asyncio(reactor, pty):
    """Each end is reported, in any order of the two kinds."""
    source = f"""{CHILDREN}
@defer.inlineCallbacks
def main(reactor):
    for command in {COMMANDS!r}:
        spawn(command, usePTY={pty})
        show((yield defer.Deferred.fromCoroutine(as_deferred(asyncio_child()))))
        spawn(command, usePTY={pty})
    yield wait_for(6)
    show(ended)

async def as_deferred(coroutine):
    return await defer.Deferred.fromFuture(asyncio.ensure_future(coroutine))

task.react(main)
"""
    assert output_of(source, reactor) == [0, 0, 0, [3] * 6]


def test_f117_children_without_pidfd():
    """Where the kernel has none, or no descriptor is left, SIGCHLD reports the end."""
    source = f"""{CHILDREN}
def none(*arguments):
    raise OSError("Function not implemented")

os.pidfd_open = none

@defer.inlineCallbacks
def main(reactor):
    spawn("exec >&- 2>&-; sleep 0.05; exit 3")
    yield wait_for(1)
    show(ended)

task.react(main)
"""
    assert output_of(source) == [[3]]


def test_f117_no_descriptor_is_left_of_a_child():
    """A hundred children leave nothing behind, whoever has reaped them."""
    source = f"""{CHILDREN}
@defer.inlineCallbacks
def main(reactor):
    spawn("exit 0")
    yield wait_for(1)
    yield task.deferLater(reactor, 0.1)
    before = len(os.listdir("/proc/self/fd"))
    for number in range(100):
        spawn("exit 0", childFDs={{}})
    yield wait_for(101)
    yield task.deferLater(reactor, 0.1)
    show([len(ended), len(os.listdir("/proc/self/fd")) - before])

task.react(main)
"""
    assert output_of(source) == [[101, 0]]


def test_f117_children_whose_status_the_kernel_drops():
    """With SIGCHLD ignored, as some parents leave it, the end of a child is still reported."""
    source = f"""{CHILDREN}
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
reactor.callWhenRunning(signal.signal, signal.SIGCHLD, signal.SIG_IGN)
reactor.callWhenRunning(spawn, "exec >&- 2>&-; sleep 0.05; exit 3")
reactor.callWhenRunning(lambda: wait_for(1).addCallback(lambda _: reactor.stop()))
reactor.run(installSignalHandlers=False)
show(ended)
"""
    assert output_of(source) == [[255]]
