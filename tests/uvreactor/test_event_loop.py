"""The reactor and asyncio's event loop: which loop is current, and when it stops."""

import pytest

from tests.uvreactor.program import beside, output_of

BEFORE_THE_RUN = """
seen = {}

async def answer():
    await asyncio.sleep(0.01)
    return 42

def start(place):
    deferred = defer.Deferred.fromFuture(asyncio.ensure_future(answer()))
    deferred.addBoth(lambda result: seen.setdefault(place, result))

class Starting(service.Service):
    def startService(self):
        start("startService")
"""

PLACES = {
    "module level": "start('module level')",
    "startService": "Starting().startService()",
    "callWhenRunning": "reactor.callWhenRunning(start, 'callWhenRunning')",
    "before startup": "reactor.addSystemEventTrigger('before', 'startup', start, 'before startup')",
    "a timed call": "reactor.callLater(0, start, 'a timed call')",
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("reactor", beside("asyncio"))
def test_f115_asyncio_code_that_starts_before_the_loop_runs(reactor):
    """A coroutine that starts at module level, in a service or at the start gives its result."""
    source = "from twisted.application import service\n" + BEFORE_THE_RUN
    source += "\n".join(PLACES.values())
    source += "\nreactor.callLater(1, reactor.stop)\nreactor.run()\nshow(seen)"
    assert output_of(source, reactor) == [dict.fromkeys(PLACES, 42)]


def test_f115_asyncio_code_in_the_main_function_of_react():
    """The event loop of ``task.react`` is the reactor's."""
    source = """
async def answer():
    await asyncio.sleep(0.01)
    return 42

@defer.inlineCallbacks
def main(reactor):
    show((yield defer.Deferred.fromFuture(asyncio.ensure_future(answer()))))

task.react(main)
"""
    assert output_of(source) == [42]


def test_f115_asyncio_code_where_the_reactor_runs_in_another_thread():
    """As crochet runs it: the loop is the current one of that thread before it runs."""
    source = """
async def answer():
    return 42

def start():
    deferred = defer.Deferred.fromFuture(asyncio.ensure_future(answer()))
    deferred.addBoth(show)
    deferred.addBoth(lambda _: reactor.stop())

reactor.callWhenRunning(start)
thread = threading.Thread(target=reactor.run, kwargs={"installSignalHandlers": False})
thread.start()
thread.join(10)
"""
    assert output_of(source) == [42]


def test_f115_a_second_reactor_that_is_refused_leaves_the_loop_alone():
    """The current loop is the one of the reactor that is installed."""
    source = """
from netsrv.uvreactor import install
try:
    install()
except error.ReactorAlreadyInstalledError:
    show("refused")
show(asyncio.get_event_loop() is reactor.loop)
"""
    assert output_of(source) == ["refused", True]


@pytest.mark.parametrize("reactor", beside("epoll", "asyncio"))
def test_f116_install_is_where_the_convention_looks_for_it(reactor):
    """The module of the reactor's class has ``install``."""
    source = "show(callable(sys.modules[type(reactor).__module__].install))"
    assert output_of(source, reactor) == [True]


@pytest.mark.parametrize("path", ["netsrv.uvreactor.reactor", "netsrv.uvreactor"])
def test_f116_a_reactor_is_installed_by_the_path_of_its_class(path):
    """As Scrapy's ``TWISTED_REACTOR`` does: by the class, and ``install`` beside it."""
    source = """
del sys.modules["twisted.internet.reactor"]
module = importlib.import_module(sys.argv[2])
class_ = module.UvloopReactor
importlib.import_module(sys.argv[2]).install()
from twisted.internet import reactor
show(type(reactor) is class_)
"""
    assert output_of(source, "uvloop", path) == [True]


STALE = """
import warnings
warnings.simplefilter("ignore")

def lasted(call, *arguments):
    began = time.monotonic()
    call(*arguments)
    return time.monotonic() - began
"""


@pytest.mark.parametrize("reactor", beside("epoll"))
@pytest.mark.parametrize("iterations", [0, 1, 10])
def test_f120_a_crash_while_the_loop_does_not_run_leaves_nothing_behind(reactor, iterations):
    """The next run lasts until something ends it, and so does each iteration."""
    source = f"""{STALE}
reactor.crash()
for _ in range({iterations}):
    reactor.iterate(0)
reactor.callLater(0.2, reactor.crash)
show(lasted(reactor.run, False) > 0.19)
"""
    assert output_of(source, reactor) == [True]


@pytest.mark.parametrize("reactor", beside("epoll"))
def test_f120_two_crashes_end_one_run(reactor):
    """The second of two crashes in one run does not end the next one."""
    source = f"""{STALE}
for run in range(3):
    reactor.callLater(0, reactor.crash)
    reactor.callLater(0, lambda: (reactor.crash(), reactor.crash()))
    reactor.run(False)
reactor.callLater(0.2, reactor.crash)
show(lasted(reactor.run, False) > 0.19)
"""
    assert output_of(source, reactor) == [True]


@pytest.mark.parametrize("reactor", beside("epoll"))
def test_f120_a_crash_at_the_start_ends_that_run_only(reactor):
    """A crash before the loop runs, and one in an iteration."""
    source = f"""{STALE}
reactor.callWhenRunning(reactor.crash)
show(lasted(reactor.run, False) < 5)
reactor.callLater(0, reactor.crash)
reactor.iterate(0.05)
reactor.iterate(0)
reactor.callLater(0.2, reactor.crash)
show(lasted(reactor.run, False) > 0.19)
"""
    assert output_of(source, reactor) == [True, True]


@pytest.mark.parametrize("reactor", beside("epoll"))
def test_f120_a_second_stop_raises_and_leaves_nothing_behind(reactor):
    """``stop`` of a reactor that does not run raises, and an iteration works after it."""
    source = f"""{STALE}
for _ in range(2):
    try:
        reactor.stop()
    except error.ReactorNotRunning:
        show("refused")
reactor.callLater(0.2, reactor.crash)
show(lasted(reactor.run, False) > 0.19)
"""
    assert output_of(source, reactor) == ["refused", "refused", True]
