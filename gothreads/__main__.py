"""python -m gothreads"""

from gothreads.cli.main import run

run()
