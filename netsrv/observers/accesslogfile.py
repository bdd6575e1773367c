"""The file of an access log, which says in the log of the server when lines are lost."""

from twisted.logger import Logger

from netsrv.files import LogFile
from netsrv.settings import count_of
from netsrv.sockets.addresses import printable


class AccessLogFile(LogFile):
    """Logs when lines start and stop being dropped, and when the file is not opened again."""

    log = Logger()

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self._failing = self._on_old_file = False
        self._dropped_reported = 0

    def flush(self) -> None:
        super().flush()
        self._report_state()

    def reopen(self) -> None:
        super().reopen()
        self._report_state()

    def _report_state(self) -> None:
        error, path = self.error, printable(self.path)
        if error is not None and not self._failing:
            line = "access log {path}: {error}; dropped lines are counted"
            self.log.warn(line, path=path, error=error.strerror)
        elif error is None and self._failing:
            lost = self.dropped - self._dropped_reported
            lines = f"{count_of(lost, 'line')} {'was' if lost == 1 else 'were'}"
            line = "access log {path}: writing again; {lines} dropped"
            self.log.info(line, path=path, lines=lines, lost=lost)
            self._dropped_reported = self.dropped
        self._failing = error is not None
        if error is None:
            self._report_old_file(self.reopen_error, path)

    def _report_old_file(self, error: OSError | None, path: str) -> None:
        """Log when lines begin to go to the file of before, and when that is over."""
        if error is not None and not self._on_old_file:
            line = "access log {path} is not opened again: {error}; still writing to the old file"
            self.log.warn(line, path=path, error=error.strerror)
        elif error is None and self._on_old_file:
            self.log.info("access log {path} is open again", path=path)
        self._on_old_file = error is not None
