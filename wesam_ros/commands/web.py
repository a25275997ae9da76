"""`wesam web`: a page that shows what the nodes see and learn, and takes a person's clicks."""

from __future__ import annotations

import argparse
import socket
from contextlib import suppress
from pathlib import Path

from wesam_ros.web.security import LOOPBACK, Access, read_token

PORT = 8765
ANYWHERE = ("0.0.0.0", "::")
"""Addresses that stand for all of the machine's."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds this command's options to `parser`."""
    parser.add_argument(
        "--host",
        default=LOOPBACK[0],
        metavar="ADDRESS",
        help="address to listen on; 0.0.0.0 for all of this machine's, which lets the whole network watch (default: %(default)s)",
    )
    parser.add_argument("--port", type=int, default=PORT, metavar="N", help="port to listen on (default: %(default)s)")
    parser.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="a further name that browsers call this machine by; may be repeated",
    )
    parser.add_argument(
        "--token-file",
        type=Path,
        metavar="FILE",
        help="file with the token that changing something needs; made where it is missing (default: a new token at each start)",
    )
    parser.add_argument("--adapters", type=Path, metavar="DIR", help="folder with adapter files that may be loaded (default: none)")
    parser.add_argument(
        "--image",
        default="",
        metavar="TOPIC",
        help="base name of the colour image, in each robot's namespace if it has no slash in front (default: the one that the segmenter "
        "subscribes to)",
    )
    parser.add_argument(
        "--domain-id",
        type=int,
        metavar="N",
        help="ROS_DOMAIN_ID of a graph on this machine, such as that of `wesam replay` (default: the environment's)",
    )


def run(args: argparse.Namespace) -> int:
    """Serves the page until it is interrupted; returns 0.

    Raises:
        ValueError: a port, token file or folder cannot be used.
    """
    import rclpy
    from rclpy.executors import SingleThreadedExecutor
    from rclpy.signals import SignalHandlerOptions

    from wesam_ros.ros.children import enter_local_graph
    from wesam_ros.ros.process import spinning
    from wesam_ros.ros.watched_robots import WatchedRobots
    from wesam_ros.web.server import WebSettings, make_server

    settings = WebSettings(args.host, args.port, access_of(args), folder_of(args))
    check_port(args.host, args.port)
    if args.domain_id is not None:
        enter_local_graph(args.domain_id)
    rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)  # the server ends the process
    executor = SingleThreadedExecutor()
    node = rclpy.create_node("web", use_global_arguments=False)
    executor.add_node(node)
    try:
        with spinning(executor):
            server = make_server(WatchedRobots(node, executor, args.image), settings)
            print(told(args, settings.access), flush=True)
            with suppress(KeyboardInterrupt):  # that is how it is ended
                server.run()
    finally:
        rclpy.try_shutdown()
    return 0


def access_of(args: argparse.Namespace) -> Access:
    """The token, and the names under which the server may be asked."""
    names = list(args.allow_host)
    if args.host in ANYWHERE:
        names += [socket.gethostname(), *{each[4][0] for each in socket.getaddrinfo(socket.gethostname(), None)}]
    else:
        names.append(args.host)
    file = args.token_file.expanduser() if args.token_file is not None else None
    return Access(read_token(file), map(str, names), args.port)


def folder_of(args: argparse.Namespace) -> Path | None:
    """The folder of adapter files, whole. ValueError: there is none of this name."""
    if args.adapters is None:
        return None
    folder: Path = args.adapters.expanduser().resolve()
    if not folder.is_dir():
        raise ValueError(f"--adapters must be a folder, but there is none at {folder}")
    return folder


def check_port(host: str, port: int) -> None:
    """Raises ValueError where the port cannot be listened on."""
    if not 1 <= port <= 65535:
        raise ValueError(f"--port must be between 1 and 65535, but is {port}")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ValueError(f"port {port} of {host} cannot be listened on ({error.strerror}); give another --port") from None


def told(args: argparse.Namespace, access: Access) -> str:
    """The lines that are printed at the start. A token from a file is not shown: the terminal may be a log."""
    shown = args.host if args.host not in ANYWHERE else socket.gethostname()
    address = f"http://{f'[{shown}]' if ':' in shown else shown}:{args.port}/"
    token = access.token if args.token_file is None else f"$(cat {args.token_file})"
    lines = [f"to watch:            {address}", f"to change something: {address}?token={token}"]
    if args.host not in LOOPBACK:
        lines.append("Anybody in this network can watch. Nothing is encrypted: see docs/security.md.")
    return "\n".join(lines)
