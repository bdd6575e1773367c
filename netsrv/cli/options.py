"""The options of the commands: one table, from which all else is made.

The parser of ``netsrv``, the options of ``twistd netsrv``, the help, the environment variables,
the completion of the shells and the manual page have the same entries.  Those of listeners and
of the server are the settings themselves.
"""

from collections.abc import Iterator

from netsrv.cli.clients import CLIENTS
from netsrv.cli.commands import HELP, REPORTS, Command, Option, report_option
from netsrv.cli.completion import NAMES
from netsrv.config.command_line import OPTIONS
from netsrv.config.model import Transport

LISTENERS = "Listeners"


def _setting_options() -> Iterator[Option]:
    for name, setting in OPTIONS.items():
        kind = setting.kind
        plain_flag = not kind.metavar and not setting.negation
        yield Option(
            name,
            (str(setting.option),),
            setting.section.title,
            setting.help,
            kind.metavar,
            "" if plain_flag else setting.default_text,
            setting.negation or "",
            kind.choices,
            kind.repeatable,
            kind.listed,
        )


VERSION = report_option("version", "print the versions of netsrv and of what it runs on, and exit")
CHECK = report_option("check", "open every socket, print all that is in effect, and exit")
JSON = report_option("json", "print the report of --check as JSON")
SCHEMA = report_option("schema", "print the JSON Schema of the configuration file, and exit")
LIST_SERVICES = report_option("list_services", "print the services that are installed, and exit")
COMPLETION = Option(
    "completion",
    ("--completion",),
    REPORTS,
    "print the completion for a shell, to be loaded by it, and exit",
    "|".join(NAMES),
    choices=tuple(NAMES),
    is_setting=False,
)

INETD = Option(
    "inetd",
    ("--inetd",),
    LISTENERS,
    "serve the socket on descriptor 0, as inetd and systemd's Accept=yes pass it",
    "SERVICE",
    is_setting=False,
)

SETTING = Option(
    "service_settings",
    ("--setting",),
    LISTENERS,
    "give a service its own setting; repeatable",
    "SERVICE.KEY=VALUE",
    "the service's own",
    repeatable=True,
    listed=True,
)

SERVE_OPTIONS: tuple[Option, ...] = (
    Option(
        "tcp",
        ("-t", "--tcp"),
        LISTENERS,
        "serve a stream service on TCP; repeatable",
        Transport.TCP.address_kind.metavar,
        f"service {Transport.TCP.default_service}",
        repeatable=True,
    ),
    Option(
        "udp",
        ("-u", "--udp"),
        LISTENERS,
        "serve a datagram service on UDP; repeatable",
        Transport.UDP.address_kind.metavar,
        f"service {Transport.UDP.default_service}",
        repeatable=True,
    ),
    Option(
        "unix",
        ("--unix",),
        LISTENERS,
        "serve a stream service on a unix socket; repeatable",
        Transport.UNIX.address_kind.metavar,
        f"service {Transport.UNIX.default_service}",
        repeatable=True,
    ),
    Option(
        "config",
        ("-c", "--config"),
        LISTENERS,
        "take listeners and limits from a TOML file",
        "FILE",
    ),
    SETTING,
    INETD,
    *_setting_options(),
    CHECK,
    JSON,
    SCHEMA,
    LIST_SERVICES,
    VERSION,
    HELP,
)
"""The options of ``netsrv serve``."""

TWISTD_OPTIONS = tuple(option for option in SERVE_OPTIONS if option is not INETD)
"""The options of ``twistd netsrv``."""

TOP_OPTIONS: tuple[Option, ...] = (COMPLETION, VERSION, HELP)
"""The options of ``netsrv`` without a command."""


ADDRESSES = (
    "ADDRESS is PORT, HOST:PORT or [IPV6]:PORT. Port 0 lets the kernel choose; port 'same' is that "
    "of the first --tcp. ADDRESS and PATH may be systemd:NAME, a socket that systemd passes. "
    "SERVICE is a name that --list-services shows."
)
VARIABLES = (
    "To netsrv serve, an environment variable stands for each option that is not a report: "
    "NETSRV_TCP for --tcp, NETSRV_MAX_CONNECTIONS for --max-connections. Lists have commas or "
    "spaces, flags are 1 or 0. The command line wins."
)
TWISTD_LOG = (
    "The log is that of twistd: --log-format has no effect, and --log-level and --quiet apply to "
    "the lines about single peers."
)
EXAMPLES = (
    ("--tcp 51423", "accept connections, log each peer and close"),
    ("--tcp echo=51423 --udp same", "echo on TCP and, on the same port, on UDP"),
    ("--tcp chargen=[::1]:1919", "characters without end, on IPv6 loopback"),
    ("--unix echo=/run/netsrv/echo.sock", "echo on a unix socket"),
    ("--config netsrv.toml", "serve what a file asks for"),
    ("--tcp 51423 --check", "show each option asked for and in effect"),
    ("--list-services", "show what can be served"),
)
SERVE = Command(
    "netsrv serve",
    "serve TCP, UDP and unix sockets in the foreground",
    "Serves TCP, UDP and unix sockets in the foreground. The log goes to standard output, and the "
    "exit status says what happened.",
    SERVE_OPTIONS,
    EXAMPLES,
    (ADDRESSES, VARIABLES),
)
TWISTD = Command(
    "twistd [-n] netsrv",
    "serve TCP, UDP and unix sockets as a daemon",
    "Serves TCP, UDP and unix sockets, as a daemon or, with twistd's option -n, in the foreground. "
    "The options of twistd, such as -n, --uid and --reactor, go before the word netsrv.",
    TWISTD_OPTIONS,
    EXAMPLES,
    (ADDRESSES, TWISTD_LOG),
)
COMMANDS = {command.word: command for command in (SERVE, *CLIENTS)}
"""The commands of ``netsrv`` by their names."""

NETSRV = Command(
    "netsrv",
    "",
    "TCP, UDP and unix socket servers and test endpoints: echo, discard, chargen, daytime and the "
    "like, and services of your own, with limits, access rules and logs.",
    TOP_OPTIONS,
    (
        ("serve --tcp 127.0.0.1:51423", "accept connections, log each peer and close"),
        ("serve --tcp echo=51423 --udp same", "echo on TCP and, on the same port, on UDP"),
        ("status 127.0.0.1:8423", "ask whether a server is ready"),
    ),
    ("netsrv COMMAND --help shows the options of a command.",),
    "COMMAND [options]",
    commands=tuple(COMMANDS.values()),
)
