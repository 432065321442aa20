"""`gothreads stress`: scenarios that try to break what runs Go on threads, each with invariants that are checked to the last unit.

    program    the Go program that most of them run (scenarios/), built
    context    what a scenario is run with: seed, threads, time; what it counts; what goes wrong
    scenario   what a scenario is; and the kind that most are, a storm
    storms, calling, lives, own    the scenarios
    catalogue  all of them, by name
    runner     one scenario, watched: its verdict
    measure, live    what is seen meanwhile
    failure    what is kept of a broken invariant, or a hang
    options, command the command line
"""
