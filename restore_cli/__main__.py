"""python -m restore_cli, and the command `restore`."""

from restore_cli.cli import signals


def main() -> None:
    """Run a command; a signal during its imports leaves no traceback."""
    signals.end_at_once()
    from restore_cli.cli.main import app

    try:
        app(prog_name="restore")
    finally:
        signals.ignore()


if __name__ == "__main__":
    main()
