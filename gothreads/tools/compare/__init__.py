"""`gothreads compare`: the same Go program under each design, measured side by side.

    command ─▶ programs (build) ─▶ runner ⇄ process ⇄ child: peers, work_* ─▶ report: findings, plots, table, JSON, HTML

Each design has a process of its own, so that memory and CPU time are its own, a crash is its own, and none is in another's way. The runner
asks them in turn: each round of a workload goes through all designs before the next begins, so that what else the machine does falls on all
alike, and figures are compared within a round.
"""
