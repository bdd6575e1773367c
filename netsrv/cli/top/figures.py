"""Figures as texts: counts, rates, sizes, durations."""

SIZES = ("B", "kB", "MB", "GB", "TB", "PB")
UNKNOWN = "-"


def count(number: float | None) -> str:
    """Return a whole number with commas."""
    return UNKNOWN if number is None else f"{number:,.0f}"


def rate(number: float | None) -> str:
    """Return a number a second: one decimal below 10."""
    if number is None or number >= 9.95 or number == int(number):
        return count(number)
    return f"{number:.1f}"


def size(number: float | None) -> str:
    """Return a number of bytes with three digits and a unit."""
    if number is None:
        return UNKNOWN
    unit = 0
    while number >= 999.5 and unit < len(SIZES) - 1:
        number, unit = number / 1000, unit + 1
    digits = 0 if unit == 0 or number >= 99.95 else 1 if number >= 9.995 else 2
    return f"{number:.{digits}f} {SIZES[unit]}"


def duration(seconds: float | None) -> str:
    """Return a time in the two units that matter."""
    if seconds is None:
        return UNKNOWN
    if seconds == 0:
        return "0 s"
    if seconds < 0.9995:
        return f"{seconds * 1000:.{1 if seconds < 0.00995 else 0}f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, whole_seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    units = [(days, "d"), (hours, "h"), (minutes, "min"), (whole_seconds, "s")]
    first = 0 if days else 1 if hours else 2
    return " ".join(f"{number} {unit}" for number, unit in units[first : first + 2] if number)


def reasons(table: dict[str, int]) -> str:
    """Return counts by reason, the largest first: ``per source 4, access 1``; one reason alone."""
    pairs = sorted(table.items(), key=lambda pair: -pair[1])
    pairs = [(reason, number) for reason, number in pairs if number]
    if len(pairs) == 1:
        return words(pairs[0][0])
    return ", ".join(f"{words(reason)} {count(number)}" for reason, number in pairs)


def words(name: str) -> str:
    """Return a name of the answer as words."""
    return name.replace("_", " ")


def printable(text: str) -> str:
    """Return text without characters that a terminal would obey."""
    return "".join(
        character if character.isprintable() else repr(character)[1:-1] for character in text
    )


def sparkline(numbers: list[float]) -> str:
    """Return a line of bars, the highest of which stands for the largest number."""
    bars = "▁▂▃▄▅▆▇█"
    top = max(numbers, default=0) or 1
    return "".join(bars[min(7, int(8 * number / top))] for number in numbers)
