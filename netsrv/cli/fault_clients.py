"""The commands ``netsrv faults``, with the words and letters of toxiproxy-cli."""

from attrs import evolve

from netsrv.cli.commands import HELP, Command, Option, report_option

SERVER = "The server"
FAULT = "The fault"

HOST = Option(
    "host",
    ("--host",),
    SERVER,
    "ask the control API at URL",
    "URL",
    "TOXIPROXY_URL, or http://localhost:8474",
    is_setting=False,
)
TOKEN_FILE = Option(
    "token",
    ("--token-file",),
    SERVER,
    "read the token of the control API from a file",
    "FILE",
    is_setting=False,
)
JSON = report_option("json", "print the answer as JSON")
COMMON = (HOST, TOKEN_FILE, JSON, HELP)

NAME = Option("name", (), SERVER, "the name of the proxy", "PROXY", is_setting=False)


def _option(name: str, flags: tuple[str, ...], text: str, metavar: str = "") -> Option:
    return Option(name, flags, FAULT, text, metavar, is_setting=False)


TOXIC = _option("toxic", ("-n", "--toxicName"), "the name of the fault", "NAME")
TOXICITY = _option(
    "toxicity", ("-tox", "--toxicity"), "hit this part of the connections, from 0 to 1", "N"
)
ATTRIBUTE = Option(
    "attribute",
    ("-a", "--attribute"),
    FAULT,
    "give the fault this attribute; repeatable",
    "KEY=VALUE",
    repeatable=True,
    is_setting=False,
)
SELECTORS = (
    _option("skip", ("--skip",), "pass over so many units first", "N"),
    _option("first", ("--first",), "hit only so many units", "N"),
    _option("every", ("--every",), "hit each N-th unit only", "N"),
    _option("only_from", ("--only-from",), "hit only peers in these networks", "NETS"),
    _option("ttl", ("--ttl",), "remove the fault after S seconds", "S"),
    _option("seed", ("--seed",), "begin the random numbers here", "N"),
)

LIST = Command(
    "netsrv faults list",
    "list the proxies",
    "Lists the proxies, and the listeners of the server, with the number of their faults.",
    COMMON,
    (("", "list all proxies"),),
    aliases=("l", "li", "ls"),
    module="faults",
)
INSPECT = Command(
    "netsrv faults inspect",
    "list the faults of a proxy",
    "Lists the faults of a proxy or of a listener of the server.",
    COMMON,
    (("web", "list the faults of the proxy web"),),
    synopsis="[options] PROXY",
    operand=NAME,
    aliases=("i", "ins"),
    module="faults",
)
CREATE = Command(
    "netsrv faults create",
    "create a proxy",
    "Creates a proxy, which forwards to its upstream.",
    (
        Option(
            "listen", ("-l", "--listen"), SERVER, "listen on ADDRESS", "ADDRESS", is_setting=False
        ),
        Option(
            "upstream",
            ("-u", "--upstream"),
            SERVER,
            "forward to ADDRESS",
            "ADDRESS",
            is_setting=False,
        ),
        Option(
            "protocol",
            ("--protocol",),
            SERVER,
            "forward streams or datagrams",
            "tcp|udp",
            "tcp",
            choices=("tcp", "udp"),
            is_setting=False,
        ),
        *COMMON,
    ),
    (("-l 127.0.0.1:8081 -u 127.0.0.1:8080 web", "put the proxy web before a server"),),
    synopsis="-l ADDRESS -u ADDRESS [options] PROXY",
    operand=NAME,
    aliases=("c", "new"),
    module="faults",
)
TOGGLE = Command(
    "netsrv faults toggle",
    "disable a proxy, or enable it again",
    "Disables a proxy, which ends its connections and refuses others, or enables it again.",
    COMMON,
    (("web", "disable the proxy web"),),
    synopsis="[options] PROXY",
    operand=NAME,
    aliases=("tog",),
    module="faults",
)
DELETE = Command(
    "netsrv faults delete",
    "delete a proxy",
    "Deletes a proxy, which ends its connections.",
    COMMON,
    (("web", "delete the proxy web"),),
    synopsis="[options] PROXY",
    operand=NAME,
    aliases=("d",),
    module="faults",
)
ADD = Command(
    "netsrv faults add",
    "add a fault to a proxy",
    "Adds a fault to a proxy or to a listener of the server.",
    (
        _option("type", ("-t", "--type"), "the type of the fault", "TYPE"),
        TOXIC,
        _option("up", ("-u", "--upstream"), "hit what peers send"),
        _option("down", ("-d", "--downstream"), "hit what peers receive [default]"),
        TOXICITY,
        ATTRIBUTE,
        *SELECTORS,
        *COMMON,
    ),
    (
        ("-t latency -a latency=200 -a jitter=50 web", "delay what comes from the proxy web"),
        ("-t refuse --first 3 web", "close the next three connections to it"),
    ),
    synopsis="-t TYPE [options] PROXY",
    operand=NAME,
    module="faults",
)
UPDATE = Command(
    "netsrv faults update",
    "change a fault of a proxy",
    "Changes attributes and the toxicity of a fault; the others stay.",
    (TOXIC, TOXICITY, ATTRIBUTE, *COMMON),
    (("-n latency_downstream -a latency=500 web", "delay more"),),
    synopsis="-n NAME [options] PROXY",
    operand=NAME,
    module="faults",
)
REMOVE = Command(
    "netsrv faults remove",
    "remove a fault from a proxy",
    "Removes a fault; what it holds passes immediately.",
    (TOXIC, *COMMON),
    (("-n latency_downstream web", "delay no longer"),),
    synopsis="-n NAME [options] PROXY",
    operand=NAME,
    aliases=("r",),
    module="faults",
)
RESET = Command(
    "netsrv faults reset",
    "enable all proxies, and remove all faults",
    "Enables all proxies and removes all faults, also those of the configuration.",
    COMMON,
    (("", "begin again without faults"),),
    module="faults",
)
TOXIC_COMMANDS = Command(
    "netsrv faults toxic",
    "add, update and remove, as toxiproxy-cli has them",
    "Adds, updates and removes faults, as toxiproxy-cli does.",
    (HELP,),
    (("add -t latency -a latency=200 web", "the same as netsrv faults add"),),
    synopsis="add|update|remove [options] PROXY",
    commands=(ADD, UPDATE, evolve(REMOVE, aliases=("r", "delete", "d"))),
    aliases=("t",),
)
FAULTS = Command(
    "netsrv faults",
    "change the faults of a running server",
    "Changes the faults and the proxies of a running server by its control API, or those of "
    "toxiproxy. The exit status is 1 if the server refuses that, and 69 if it cannot be reached.",
    (HELP,),
    (
        ("list", "list the proxies of the server on this machine"),
        ("add -t latency -a latency=200 web", "delay what comes from the proxy web"),
    ),
    (
        "The control API is looked for at TOXIPROXY_URL, or at http://localhost:8474. A token may "
        "be in NETSRV_CONTROL_TOKEN or TOXIPROXY_AUTH_TOKEN.",
    ),
    "COMMAND [options]",
    commands=(
        *(LIST, INSPECT, CREATE, TOGGLE, DELETE, ADD, UPDATE, REMOVE, RESET),
        TOXIC_COMMANDS,
    ),
    leading=("--host", "--token-file"),
)
