"""`gothreads compare`: measures the same Go program under each design, side by side.

    command ─▶ programs (build) ─▶ runner ⇄ design_process ⇄ child: peers, *_workloads
                                     └─▶ report ─▶ findings, plots, table, report_files

Each design has its own process: memory and CPU time can be told apart, a crash stays where it happens, and no design
gets in another's way. The runner takes them in turn: every round of a workload goes through all designs before the next
round begins, so whatever else the machine does affects all alike. Figures are compared within a round.

child_process (a process that answers requests), rounds (interleaving), callers (threads that call) and figures
(medians, ratios) are the harness that the benchmarks of this project use, too.
"""
