"""`gothreads stress`: scenarios that try to break the machinery that runs Go on threads. Every unit of their work is
checked.

    scenario_program  the Go program that most scenarios run (scenarios/): how it is built, and what it imports
    scenario_context  what a scenario runs with: seed, threads, time; counts what was done, records what failed
    scenario          the interface of scenarios; and the kind that most are, a storm
    storm_scenarios, call_scenarios, lifecycle_scenarios, module_scenario    the scenarios
    catalogue         all of them, by name
    runner            runs and watches one scenario: its verdict
    sampling, terminal_view    figures of the running scenario, and how they are shown
    failure_file      what is kept of a broken invariant or a hang
    leftovers         threads and descriptors that closed apps have left
    options, command  the command line
"""
