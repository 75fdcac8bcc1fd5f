"""`restore ui`: restore images in a browser, by a page on this machine."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer.core import TyperGroup

from restore_cli.assets import set_environment
from restore_cli.cli.console import reporter
from restore_cli.errors import MissingExtra, UsageError

if TYPE_CHECKING:
    import gradio as gr

LOOPBACK = ("127.0.0.1", "localhost")
USER = "restore"  # the name on the login page


def ui(
    context: typer.Context,
    host: Annotated[
        str,
        typer.Option(
            metavar="ADDRESS",
            help="Address to listen on; other addresses than 127.0.0.1 need a password.",
        ),
    ] = LOOPBACK[0],
    port: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            max=65535,
            help="Port. [default: the first free one from 7860]",
            show_default=False,
        ),
    ] = None,
    password: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT",
            hide_input=True,
            help=f"Password of the user {USER!r}; the variable RESTORE_UI_PASSWORD keeps it out of "
            "the list of processes.",
        ),
    ] = None,
    open: Annotated[
        bool, typer.Option("--open/--no-open", help="Open the page in a browser, or not.")
    ] = True,
) -> None:
    """Restore images on a page in the browser, served by this machine."""
    if host not in LOOPBACK and not password:
        raise UsageError(
            f"--host {host}: others can reach the page, so it needs a password",
            hint="set RESTORE_UI_PASSWORD, or add --password",
        )
    with (
        reporter("ui") as report,
        tempfile.TemporaryDirectory(prefix="restore-ui-", ignore_cleanup_errors=True) as folder,
    ):
        set_environment(
            {
                "GRADIO_ANALYTICS_ENABLED": "False",
                "GRADIO_RUN_HISTORY": "False",  # in the browser
                "GRADIO_TEMP_DIR": folder,
                "no_proxy": f"localhost,{host}",  # Gradio asks the page whether it is there
            }
        )
        try:
            import gradio  # noqa: F401
        except ImportError as error:
            raise MissingExtra(
                "restore ui needs the package gradio", hint="pip install 'restore-cli[ui]'"
            ) from error
        from restore_cli.cli.ui_options import Options
        from restore_cli.cli.ui_page import build
        from restore_cli.cli.ui_work import Work

        work = Work()
        root = context.find_root().command
        assert isinstance(root, TyperGroup)
        options = Options(root, is_local=host in LOOPBACK)
        page = build(work, Path(folder), options)
        try:
            report.data(launch(page, host, port, password, open=open))
            report.say("press Ctrl-C to stop")
            while True:
                time.sleep(1)
        finally:
            page.close(verbose=False)
            work.stop()


def launch(
    page: gr.Blocks, host: str, port: int | None, password: str | None, *, open: bool = False
) -> str:
    """Serve the page from a thread and return its address. Raises UsageError for a used port."""
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    from restore_cli.cli.ui_page import CSS, LARGEST_UPLOAD

    # A web site whose name leads to 127.0.0.1 would pass for this page otherwise.
    hosts = Middleware(TrustedHostMiddleware, allowed_hosts=[*LOOPBACK])
    try:
        _, address, _ = page.launch(
            server_name=host,
            server_port=port,
            inbrowser=open,
            auth=(USER, password) if password else None,
            auth_message=f"The user is {USER!r}.",
            max_file_size=LARGEST_UPLOAD,
            app_kwargs={"middleware": [hosts]} if host in LOOPBACK else None,
            footer_links=[],
            css=CSS,
            prevent_thread_lock=True,
            quiet=True,
            share=False,
            ssr_mode=False,
            mcp_server=False,
            enable_monitoring=False,
        )
    except OSError as error:
        where = "7860 to 7959" if port is None else str(port)
        raise UsageError(
            f"cannot listen at {host}, port {where}", hint="choose another one with --port"
        ) from error
    return str(address)
