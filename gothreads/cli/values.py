"""The syntax of options' values."""

from __future__ import annotations

import argparse
import ipaddress
import logging
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from gothreads.errors import MisuseError
from gothreads.files import reason
from gothreads.runtime.options import LEAST_MEMORY, LEAST_STACK, Limits
from gothreads.text import cut, lacks_unit, shown, size_in_bytes, whole_number
from gothreads.wasi.settings import Mount
from gothreads.wasm.passes.sharpen import check_seed

log = logging.getLogger("gothreads")

#: Go's notation of a duration, and its units in seconds.
_DURATION = re.compile(r"(?:\d{1,9}(?:\.\d{1,9})?(?:ms|h|m|s))+")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def parse_mount(text: str, option: str = "--mount ") -> Mount:
    """Parse HOST:GUEST, HOST:GUEST:ro or HOST:GUEST:rw. `option` is named in the error message."""
    parts = text.split(":")
    read_only = len(parts) > 2 and parts[-1] in ("ro", "rw")
    mode = parts.pop() if read_only else "rw"
    if len(parts) != 2 or not all(parts):
        meant = f". Did you mean {option}{text}:{_guest(text)}?" if os.path.isdir(text) else ", such as ./data:/data"
        raise MisuseError(f"{option}{text}: expected HOST:GUEST or HOST:GUEST:ro{meant}")
    if not os.path.exists(parts[0]):  # not Path.exists, which raises for names that are too long
        raise MisuseError(f"{option}{text}: {parts[0]} does not exist")
    is_file = os.path.isfile(parts[0])
    if not os.path.isdir(parts[0]) and not (is_file and mode == "ro"):
        hint = f"; a file can be mounted read-only: {option}{parts[0]}:{parts[1]}:ro" if is_file else ""
        raise MisuseError(f"{option}{text}: {parts[0]} is not a folder{hint}")
    if not parts[1].startswith("/"):
        raise MisuseError(f"{option}{text}: the path in the module must begin with /: {parts[0]}:{_guest(parts[1])}")
    return Mount(Path(parts[0]), parts[1], mode == "ro")


def _guest(text: str) -> str:
    """A path in the module for a folder that is named so here: /app for the one that we are in."""
    return os.path.join("/", os.path.normpath(text).lstrip("./") or "app")


def parse_output(text: str) -> Path:
    """A file to write. If its folder is missing, that is made, but no folder above: the path may be mistyped."""
    above = Path(text).parent.parent
    if not os.path.isdir(above):
        raise MisuseError(f"-o {text}: there is no folder {above} (only the last folder of a path is made)")
    return Path(text)


def parse_environment(settings: Sequence[str], where: str = "--env ") -> dict[str, str]:
    """Parse NAME=VALUE, or NAME for this process's value. If that is not set, NAME is left out, and the log says so."""
    env = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not name:
            raise MisuseError(f"{where}{setting}: expected NAME=VALUE or NAME")
        if equals:
            env[name] = value
        elif name in os.environ:
            env[name] = os.environ[name]
        else:
            log.warning("%s%s: this variable is not set here, so the module does not get it", where, shown(name))
    return env


def parse_environment_files(files: Sequence[str]) -> dict[str, str]:
    """Read files of NAME=VALUE or NAME lines, by the rules of `docker run --env-file`. Later files take precedence.

    Empty lines and lines that begin with # are skipped. Everything after = is the value: quotes, spaces and # too.
    """
    env: dict[str, str] = {}
    for file in files:
        try:
            lines = Path(file).read_bytes().decode("utf-8-sig").replace("\r\n", "\n").split("\n")
        except OSError as error:
            raise MisuseError(f"--env-file {file}: {reason(error)}") from None
        except UnicodeDecodeError:
            raise MisuseError(f"--env-file {file}: not UTF-8 text") from None
        for number, line in enumerate(map(str.lstrip, lines), 1):
            if not line or line.startswith("#"):
                continue
            name = line.partition("=")[0]
            if not re.fullmatch(r"[^\s\0]+", name) or "\0" in line:
                raise MisuseError(f"--env-file {file}, line {number}: expected NAME=VALUE or NAME")
            env |= parse_environment([line], f"--env-file {file}, line {number}: ")
            value = line.partition("=")[2].rstrip()
            if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
                log.info("--env-file %s, line %d: the quotes belong to the value of %s, as with docker run", file,
                         number, shown(name))
    return env


def parse_size(text: str, option: str = "--memory ", least: int = 0) -> int:
    """Parse a size such as 65536, 512M or 1.5G into bytes. `option` is named in the error message.

    least: what is smaller is an error, which says what may have been meant.
    """
    if (size := size_in_bytes(text)) is None:
        raise MisuseError(f"{option}{shown(text)}: not a size; expected a number of bytes, or one such as 512M or 1.5G")
    meant = f"{option}{text} is {size:,} bytes. Did you mean {option}{text}M?"
    if size < least and lacks_unit(text, 1 << 16):
        raise MisuseError(meant)
    if lacks_unit(text):
        log.warning("%s (If not: %s%sB)", meant, option, text)
    return size


def parse_limits(memory: str | None, texts: Sequence[str]) -> Limits:
    """Parse --memory SIZE and --limit NAME=N."""
    limits: dict[str, Any] = {"memory": parse_size(memory, least=LEAST_MEMORY)} if memory else {}
    for text in texts:
        name, equals, value = text.partition("=")
        try:
            match name:
                case "memory" | "stack" | "output" if equals:
                    least = {"memory": LEAST_MEMORY, "stack": LEAST_STACK}.get(name, 0)
                    limits[name] = parse_size(value, f"--limit {name}=", least)
                case "threads" | "files" if equals:
                    limits[name] = parse_count(value)
                case "seconds" if equals:
                    limits[name] = parse_seconds(value)
                case _:
                    raise argparse.ArgumentTypeError(f"expected NAME=N; names are: "
                                                     f"{', '.join(field.name for field in fields(Limits))}")
        except argparse.ArgumentTypeError as error:
            raise MisuseError(f"--limit {text}: {error}") from None
    return Limits(**limits)


def parse_port(text: str) -> int:
    number = whole_number(text, 65535)
    if number is None:
        raise argparse.ArgumentTypeError(f"{cut(text)} is not a port; expected a number from 0 to 65535")
    return number


def parse_address(text: str) -> tuple[str, int]:
    """Parse HOST:PORT, where an IPv6 address has brackets."""
    host, colon, port = text.rpartition(":")
    if not colon or not host or (":" in host and not (host.startswith("[") and host.endswith("]"))):
        raise argparse.ArgumentTypeError(f"{cut(text)} is not an address; expected HOST:PORT, such as 127.0.0.1:9100")
    return host.removeprefix("[").removesuffix("]"), parse_port(port)


def parse_network(text: str) -> str:
    """Parse an address or a network, or *."""
    try:
        return text if text == "*" else str(ipaddress.ip_network(text, strict=False))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{cut(text)} is neither an address nor a network, such as 10.0.0.0/8; nor *"
                                         ) from None


def parse_host(text: str) -> str:
    host, _, port = text.rpartition(":")
    if host and ":" not in host and port.isdigit():  # not an IPv6 address
        raise argparse.ArgumentTypeError(f"{cut(text)} has a port; write --host {shown(host)} --port {port}")
    return text


def parse_seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 1e6:
        meant = ""
        if _DURATION.fullmatch(text):  # as Go writes it
            parts = re.findall(r"([\d.]+)(ms|h|m|s)", text)
            meant = f". Did you mean {sum(float(number) * _UNITS[unit] for number, unit in parts):g}?"
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0{meant}")
    return seconds


def parse_drain(text: str) -> float:
    return 0.0 if text == "0" else parse_seconds(text)


def parse_count(text: str) -> int:
    number = whole_number(text, sys.maxsize)
    if not number:
        largest = f" and at most {sys.maxsize}" if text.strip("0123456789") == "" and text.strip("0") else ""
        raise argparse.ArgumentTypeError(f"{cut(text)} is not a whole number of at least 1{largest}")
    return number


def parse_count_or_zero(text: str) -> int:
    """The same, but 0 is allowed."""
    return 0 if text == "0" else parse_count(text)


def parse_descriptor(text: str) -> int:
    number = whole_number(text, sys.maxsize)
    if number is None or number < 3:
        raise argparse.ArgumentTypeError(f"{cut(text)} is not the number of a descriptor; expected 3 or more")
    return number


def parse_trust(text: str) -> bool | str:
    """Parse the value of --trust."""
    return True if text == "any" else text


def parse_seed(text: str | None) -> int | None:
    """Parse the value of --sharpen."""
    try:
        return None if text is None else check_seed(int(text))
    except ValueError:
        raise MisuseError(f"--sharpen needs a whole number, not {text!r}") from None
