"""python -m gothreads"""

from gothreads.cli import run

run()
