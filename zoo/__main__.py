"""python -m zoo."""

from zoo.cli.main import main

main()
