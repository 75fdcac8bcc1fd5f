"""python -m restore_cli"""

from restore_cli.cli.main import app

app(prog_name="restore")
