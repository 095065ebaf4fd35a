"""``python -m hipcomm_launcher`` is ``hipcomm-run``."""

from hipcomm_launcher.cli import main

main(prog_name="hipcomm-run")
