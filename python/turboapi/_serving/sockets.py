"""Listening sockets, bound before anything else so that errors come first and are clear.

A socket listens once an application is ready to serve, not before: until then clients are refused,
and what checks whether the server is up is told that it is not.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from turboapi._serving import addresses, process, upgrade
from turboapi._serving.settings import ConfigError

if TYPE_CHECKING:
    from turboapi.config import Config

# The first descriptor that systemd passes (sd_listen_fds(3)).
_SYSTEMD_FIRST_FD = 3
# More than any unit has.
_MOST_OF_SYSTEMD = 1024


# The files of unix sockets that this process made: path, device, inode.
_made: dict[str, tuple[Path, int, int]] = {}


class BindError(Exception):
    """Can't listen there; the message says why and which setting to change."""


def bind_all(config: Config) -> list[socket.socket]:
    """Return a socket for each address of a configuration, as `bind` does.

    Raises:
        BindError: can't listen on one of them; then on none.
        ConfigError: there can be no such socket.
    """
    bound: list[socket.socket] = []
    try:
        for each in config.addresses():
            bound.append(bind(each))
    except BaseException:
        close(bound)
        remove_files(config)
        raise
    return bound


def close(bound: list[socket.socket]) -> None:
    """Close all of them."""
    for each in bound:
        each.close()


def bind(config: Config) -> socket.socket:
    """Return a socket for the address in a configuration, which does not listen yet; the caller
    closes it.

    An inherited socket is as it was given.

    Raises:
        BindError: the address is taken, not this machine's, or not allowed.
        ConfigError: there can be no such socket.
    """
    if config.bind and config.bind[0].startswith(addresses.SYSTEMD):
        raise ConfigError("bind", f"systemd passed no socket for {config.bind[0]}")
    if config.fd is not None:
        return _inherited(config.fd, _setting(config, "fd"))
    if config.uds is not None:
        return _bind_unix(config)
    return _bind_inet(config)


def _setting(config: Config, name: str) -> str:
    """Return the setting that the user gave the address with."""
    return "bind" if config.bind else name


def _named(config: Config, name: str) -> str:
    """Return the same as a message has it: with its option and its variable."""
    name = _setting(config, name)
    return f"--{name}, TURBOAPI_{name.upper()}"


def _option(config: Config, name: str) -> str:
    """Return it as advice has it."""
    name = _setting(config, name)
    return f"--{name} (TURBOAPI_{name.upper()})"


def remove_files(config: Config) -> None:
    """Remove the unix sockets that `bind` made, if they are still those at their paths."""
    for each in config.addresses():
        path, *identity = _made.pop(each.uds or "", (None,))
        if path is not None:
            with suppress(OSError):
                status = path.lstat()
                if identity == [status.st_dev, status.st_ino]:
                    path.unlink()


def files() -> dict[str, tuple[Path, int, int]]:
    """Return the files of unix sockets that this process has to remove, for `take_files` of its
    heir.
    """
    return dict(_made)


def leave_files() -> None:
    """Leave them to another process."""
    _made.clear()


def take_files(made: dict[str, tuple[Path, int, int]]) -> None:
    """Take over from another process the duty to remove these files at the end."""
    _made.update(made)


def listens(bound: socket.socket) -> bool:
    """Return whether it does already."""
    return bool(bound.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))


def listen(bound: socket.socket, backlog: int) -> None:
    """Let a socket listen, if it does not yet.

    Raises:
        BindError: another one began to listen there since ours was bound.
    """
    if listens(bound):
        return
    try:
        bound.listen(backlog)
    except OSError as error:
        raise BindError(f"Can't listen on {describe(bound)}: {error.strerror}.") from None


def refuse(bound: socket.socket) -> None:
    """Let a socket of ours that listens refuse clients until the next `listen`, as far as it can.

    Clients that wait to be accepted are told that nobody will, instead of waiting on.
    """
    if bound.family != socket.AF_UNIX:  # those can't listen again
        with suppress(OSError):  # it did not listen
            bound.shutdown(socket.SHUT_RD)


def from_systemd(config: Config) -> Config:
    """Return the configuration with the sockets that systemd started us for, if it did.

    See sd_listen_fds(3). What the user named himself goes before. Our own variables are removed,
    so that no process of ours takes them for its own.

    Raises:
        ConfigError: `bind` names one that was not passed.
    """
    names: list[str] = []
    if os.environ.get("LISTEN_PID") == str(os.getpid()):
        count = os.environ.get("LISTEN_FDS", "")
        names = os.environ.get("LISTEN_FDNAMES", "").split(":")
        names = [*names, *[""] * _MOST_OF_SYSTEMD][: int(count) if count.isdecimal() else 0]
        process.remember_manager({"LISTEN_FDS": str(len(names)), "LISTEN_FDNAMES": ":".join(names)})
        for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
            os.environ.pop(name, None)
    if config.bind:
        return config.replace(bind=[one for each in config.bind for one in _passed(each, names)])
    if not names or config.fd is not None or config.uds is not None:
        return config
    if len(names) == 1:
        return config.replace(fd=_SYSTEMD_FIRST_FD)
    return config.replace(bind=[_descriptor(number) for number in range(len(names))])


def _passed(address: str, names: list[str]) -> list[str]:
    """Return an address, or those that systemd passed under the name in it."""
    if not address.startswith(addresses.SYSTEMD):
        return [address]
    name = address.removeprefix(addresses.SYSTEMD)
    found = [_descriptor(number) for number, each in enumerate(names) if each == name]
    if not found:
        passed = ", ".join(filter(None, names)) or "none"
        raise ConfigError(
            "bind", f"systemd passed no socket of the name {name!r}; it passed: {passed}"
        )
    return found


def _descriptor(number: int) -> str:
    return f"{addresses.DESCRIPTOR}{_SYSTEMD_FIRST_FD + number}"


def describe(bound: socket.socket, scheme: str = "http") -> str:
    """Return where a socket listens, as a URL where there is one."""
    name = bound.getsockname()
    if bound.family == socket.AF_UNIX:
        return f"unix:{name}"
    host, port = name[:2]
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def describe_all(bound: list[socket.socket], scheme: str = "http") -> str:
    """Return the same of several, in one line."""
    return ", ".join(describe(each, scheme) for each in bound)


def _inherited(fd: int, setting: str) -> socket.socket:
    try:
        # A copy: closing it leaves the caller's descriptor alone.
        bound = socket.socket(fileno=os.dup(fd))
        kind = bound.type
    except OSError as error:
        raise ConfigError(setting, f"{fd} is no open socket: {error.strerror}") from None
    if kind != socket.SOCK_STREAM:
        bound.close()
        raise ConfigError(setting, f"{fd} is a socket of another kind than stream")
    if _has_peer(bound):
        bound.close()
        raise ConfigError(setting, f"{fd} is a connection, not a socket that listens")
    bound.set_inheritable(False)
    return bound


def _has_peer(bound: socket.socket) -> bool:
    try:
        bound.getpeername()
    except OSError:
        return False
    return True


def _bind_unix(config: Config) -> socket.socket:
    path, permissions = config.uds or "", config.uds_permissions
    if inherited := upgrade.socket_for(socket.AF_UNIX, path):
        status = Path(path).lstat()
        _made[path] = (Path(path).absolute(), status.st_dev, status.st_ino)
        return inherited
    _check_path(path, _setting(config, "uds"))
    _remove_stale(config, path)
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        bound.bind(path)
        # Nobody can connect before it listens.
        if permissions is not None:
            Path(path).chmod(permissions)
        status = Path(path).lstat()
    except OSError as error:
        bound.close()
        raise BindError(
            f"Can't listen on {path} ({_named(config, 'uds')}): {error.strerror or error}."
        ) from None
    _made[path] = (Path(path).absolute(), status.st_dev, status.st_ino)
    return bound


def _check_path(path: str, setting: str) -> None:
    longest = 107  # of sun_path, without the NUL
    size = len(os.fsencode(path))
    if not path or "\0" in path:
        raise ConfigError(setting, f"{path!r} is no path of a file")
    if size > longest:
        raise ConfigError(setting, f"a path of {size} bytes is too long; it may have {longest}")
    folder = Path(path).absolute().parent
    if not folder.is_dir():
        raise ConfigError(setting, f"there is no folder {folder}")


def _remove_stale(config: Config, path: str) -> None:
    """Remove the socket that a server left which is no more."""
    try:
        if not stat.S_ISSOCK(Path(path).lstat().st_mode):
            raise ConfigError(_setting(config, "uds"), f"{path} is there already, and is no socket")
    except OSError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):
            if _is_bound(path):
                raise BindError(
                    f"A server is starting on {path} already: choose another path with "
                    f"{_option(config, 'uds')}."
                ) from None
            try:
                Path(path).unlink(missing_ok=True)
            except OSError as error:
                raise BindError(
                    f"Can't replace the socket {path} ({_named(config, 'uds')}): {error.strerror}."
                ) from None
            return
        except PermissionError:
            raise BindError(
                f"{path} ({_named(config, 'uds')}) is another user's socket: choose another path."
            ) from None
        except OSError:  # its backlog is full, or it does not take our kind: somebody is there
            pass
    raise BindError(
        f"A server is listening on {path} already: choose another path with "
        f"{_option(config, 'uds')}."
    )


def _is_bound(path: str) -> bool:
    """Return whether a process has a socket of this name that listens, or does not yet.

    A relative name says nothing, as it can be meant from another folder.
    """
    if not Path(path).is_absolute():
        return False
    with suppress(OSError):
        for line in Path("/proc/net/unix").read_text(errors="replace").splitlines()[1:]:
            # Num RefCount Protocol Flags Type St Inode Path
            columns = line.split(maxsplit=7)
            if len(columns) == 8 and columns[5] == "01" and columns[7] == path:
                return True
    return False


def _bind_inet(config: Config) -> socket.socket:
    family, address = _resolve(config)
    if inherited := upgrade.socket_for(family, address):
        return inherited
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            # "::" serves IPv4 too, whatever the system's default.
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        bound.bind(address)
    except OSError as error:
        bound.close()
        raise BindError(_explain(config, error)) from None
    return bound


def _resolve(config: Config) -> tuple[int, Any]:
    host, port = config.host, config.port
    try:
        found = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise BindError(
            f"The host {host!r} ({_named(config, 'host')}) is unknown: {reason}."
        ) from None
    # A name such as localhost may have both kinds; IPv4 is what clients are told about.
    found.sort(key=lambda entry: entry[0] != socket.AF_INET)
    family, _, _, _, address = found[0]
    return family, address


def _explain(config: Config, error: OSError) -> str:
    where = f"{config.host}:{config.port}"
    if error.errno == errno.EADDRINUSE:
        owner = owner_of_port(config.port)
        return (
            f"Port {config.port} on {config.host} is in use{owner}. Stop what uses it, or choose "
            f"another with {_option(config, 'port')}; 0 takes a free one."
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return (
            f"{config.host} is no address of this machine: change {_option(config, 'host')}; "
            "0.0.0.0 stands for all."
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return (
            f"Not allowed to listen on {where}: ports below 1024 are for root. Choose another "
            f"with {_option(config, 'port')}."
        )
    names = "--bind" if config.bind else "--host, --port"
    return f"Can't listen on {where} ({names}): {error.strerror or error}."


def owner_of_port(port: int) -> str:
    """` by NAME (process PID)` as far as /proc tells; empty elsewhere and for others' processes."""
    inodes: set[str] = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with suppress(OSError):
            for line in Path(table).read_text().splitlines()[1:]:
                columns = line.split()
                listening = columns[3] == "0A"
                if listening and int(columns[1].rpartition(":")[2], 16) == port:
                    inodes.add(f"socket:[{columns[9]}]")
    if not inodes:
        return ""
    for found in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            for descriptor in (found / "fd").iterdir():
                if str(descriptor.readlink()) in inodes:
                    name = (found / "comm").read_text().strip()
                    return f" by {name} (process {found.name})"
    return ""
