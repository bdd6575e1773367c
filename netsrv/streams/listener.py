"""A stream listener: a listening socket, the gate and a service, put together.

The listener is given its socket, bound and listening, and never asks where it came from.
An accepted connection takes this way::

    acceptor -> gate.admit -> GatedFactory -> service factory

A service that has one message for each peer is served by `MessageAcceptor`, in the accept loop.
With stages, such as a PROXY header that comes first, every connection takes this way::

    acceptor -> first stage: gate.admit or gate.reserve -> PendingFactory: stages -> service factory
"""

import socket
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from twisted.internet.interfaces import IProtocolFactory

from netsrv.gate import Gate
from netsrv.guards.limits import Limits, Overload
from netsrv.interfaces import RejectReason
from netsrv.sockets.addresses import show_credentials
from netsrv.streams.connected import ConnectedAcceptor, is_connected
from netsrv.streams.factory import GatedFactory
from netsrv.streams.pending import Stage
from netsrv.streams.refusing import stop_listening
from netsrv.streams.sharing import LOOK_INTERVAL, FairShare, IShare


class StreamListener:
    """Accepts connections on *sock*, and has *factory* serve them.

    *overload* says what happens to new connections at a limit.  Every connection goes through
    *stages* first.  *share* is the part of this process in the connections of a socket from which
    others accept too.
    """

    kernel_drops = None

    def __init__(
        self,
        reactor: Any,
        sock: socket.socket,
        gate: Gate,
        factory: IProtocolFactory,
        overload: Overload = Overload.PAUSE,
        stages: Sequence[Stage] = (),
        share: IShare | None = None,
    ) -> None:
        self.gate = gate
        self.failure = ""
        """Why the socket has failed; empty if it has not."""
        self._paused_at: RejectReason | None = None
        self._is_down = False
        self._reactor = reactor
        self._sock = sock
        self._factory = factory
        self._is_unix = sock.family == socket.AF_UNIX
        self._overload = overload
        self._fair_share = None if share is None else FairShare(share, sock, gate.now)
        self._own_stages: tuple[Stage, ...] = tuple(stages)
        self._last_stage: Stage | None = None
        self._acceptor: Any = self._make_acceptor()
        self._open = False
        self._stopped = True
        self._retry: Any = None
        self._look_timer: Any = None

    # Operations of a listener

    def start(self) -> None:
        """Start the factory, and accept."""
        self._factory.doStart()
        self._stopped = False
        self.gate.open()
        self.resume()

    def suspend(self) -> None:
        """Stop accepting; new connections wait in the backlog."""
        self._open = False
        self._leave_share()
        self._paused_at = None
        self._acceptor.suspend()
        self._cancel_retry()

    def resume(self) -> None:
        """Accept again."""
        if not self.failed:
            self._open = True
            self._paused_at = None
            self._cancel_retry()
            self._acceptor.resume()

    def take_down(self) -> None:
        """Refuse connections, as if there were no server; `bring_up` ends that.

        A unix socket cannot: connections to it wait.
        """
        self.suspend()
        if not self.failed:
            self._is_down = stop_listening(self._sock)

    def bring_up(self, backlog: int) -> None:
        """Listen again.  The listener is suspended still."""
        if self._is_down and not self.failed:
            self._sock.listen(backlog)
        self._is_down = False

    def drain(self) -> None:
        """Accept the backlog, as far as there are slots, and stop the factory."""
        if self._is_down:
            self._acceptor.detach()
        else:
            self._acceptor.drain()
        self._stop()

    def detach(self) -> None:
        """Stop accepting, leave the socket to another listener, and stop the factory."""
        self._acceptor.detach()
        self._stop()

    def set_limits(self, limits: Limits) -> None:
        """Accept by other limits, first the connections that waited because of the old ones."""
        self.gate.set_limits(limits)
        self._overload = limits.overload
        if self._open and self._paused_at is not None:
            self._try_again()

    def set_stages(self, stages: Sequence[Stage]) -> None:
        """Serve new connections by other stages; pending ones keep those of before."""
        self._change_stages(tuple(stages), self._last_stage)

    def set_last_stage(self, stage: Stage | None) -> None:
        """Let new connections go through one more stage, after all others; None for none."""
        self._change_stages(self._own_stages, stage)

    def _change_stages(self, own: tuple[Stage, ...], last: Stage | None) -> None:
        had_stages = bool(self._stages)
        self._own_stages, self._last_stage = own, last
        if bool(self._stages) == had_stages or self.failed:
            return
        self._acceptor.detach()  # a service of one message has an acceptor of its own
        self._acceptor = self._make_acceptor()
        if self._open:
            self.resume()

    @property
    def _stages(self) -> tuple[Stage, ...]:
        return (
            self._own_stages if self._last_stage is None else (*self._own_stages, self._last_stage)
        )

    def _make_acceptor(self) -> Any:
        # They import Twisted's transports, which an error at the start does not need.
        from netsrv.streams.message_acceptor import MessageAcceptor, accepts_messages
        from netsrv.uvreactor.acceptor import accept_streams

        reactor, sock = self._reactor, self._sock
        callbacks = (self._serve, self._accept_failed, self._socket_failed, self._may_accept)
        if is_connected(sock):
            return ConnectedAcceptor(reactor, sock, *callbacks)
        if accepts_messages(sock, self._factory) and not self._stages:
            return MessageAcceptor(reactor, sock, self.gate, self._factory, *callbacks)
        acceptor = accept_streams(reactor, sock, *callbacks)
        if self._fair_share is not None:
            acceptor.yields = self._yields
        return acceptor

    @property
    def failed(self) -> bool:
        """True if the socket has failed for good, or is closed."""
        return self._sock.fileno() == -1

    @property
    def limit_reached(self) -> str:
        """The limit that keeps new connections from being served; empty if there is none."""
        if self._paused_at is not None:
            return self._paused_at
        return RejectReason.MAX_CONNECTIONS if self.gate.admission.full else ""

    def _stop(self) -> None:
        """Close the gate, but not before a pending connection is served, in the next turn."""
        self._open = False
        self._leave_share()
        self._stopped = True
        self._cancel_retry()
        if self._acceptor.pending:
            self._reactor.callLater(0, self._close_gate)
        else:
            self.gate.close()
        try:
            self._factory.doStop()
        except BaseException:  # as Twisted: not even SystemExit ends the server
            self.gate.report_failure("stopFactory")

    def _close_gate(self) -> None:
        if self._stopped:
            self.gate.close()

    # What the acceptor calls

    def _may_accept(self) -> bool:
        """Return True if a slot is free; if not, and we pause, wait for one."""
        admission = self.gate.admission
        if admission.may_accept or self._overload is not Overload.PAUSE:
            return True
        if admission.full:
            for slots in admission.slots:
                if slots.full:
                    slots.on_release(self._try_again)
            return self._pause(RejectReason.MAX_CONNECTIONS)
        wait = admission.retry_after(self.gate.now())
        if wait:
            self._retry = self._reactor.callLater(wait, self._try_again)
            return self._pause(RejectReason.CONNECTION_RATE)
        return True

    def _serve(self, accepted: Any, sockaddr: Any) -> None:
        """Serve an accepted connection, or turn it away."""
        if self._is_unix:
            sockaddr = show_credentials(accepted.getHandle())
        stages, gate = self._stages, self.gate
        permit = stages[0].admit(gate, sockaddr) if stages else gate.admit(sockaddr)
        if isinstance(permit, RejectReason):
            if self._overload is Overload.RESET:
                accepted.reset()
            else:
                accepted.close()
            return
        try:
            if stages:
                accepted.serve(stages[0].factory(permit, stages, self._factory, accepted))
            else:
                accepted.serve(GatedFactory(permit, self._factory))
        except BaseException:
            permit.cancel()
            raise

    def _accept_failed(self, error: OSError) -> None:
        self.gate.observer.accept_failed(self.gate.listener_info, error)

    def _socket_failed(self, error: OSError) -> None:
        self._open = False
        self._leave_share()
        self.failure = error.strerror or str(error)
        with suppress(OSError):
            self._sock.close()  # so that clients are refused, and do not wait in vain
        self.gate.observer.listener_failed(self.gate.listener_info, error, False)

    # Fairness to other processes

    def _yields(self) -> bool:
        """Return True if another process takes the next connection; look for it later."""
        assert self._fair_share is not None
        if not self._fair_share.yields(self.gate.admission.slots[0].in_use):
            return False
        if self._look_timer is None:
            self._look_timer = self._reactor.callLater(LOOK_INTERVAL, self._look)
        return True

    def _look(self) -> None:
        """Accept again if the others have caught up, or leave a connection waiting."""
        self._look_timer = None
        if self._fair_share is not None and self._acceptor.accepting:
            self._fair_share.look()
            self._acceptor.resume()

    def _leave_share(self) -> None:
        if self._fair_share is not None:
            self._fair_share.leave()

    # At a limit

    def _pause(self, reason: RejectReason) -> bool:
        self._acceptor.suspend()
        self._paused_at = reason
        self.gate.observer.suspended(self.gate.listener_info, reason)
        return False

    def _try_again(self) -> None:
        self._cancel_retry()
        if self._open:
            self._paused_at = None
            self.gate.observer.resumed(self.gate.listener_info)
            self._acceptor.resume()

    def _cancel_retry(self) -> None:
        for timer in (self._retry, self._look_timer):
            if timer is not None and timer.active():
                timer.cancel()
        self._retry = self._look_timer = None
