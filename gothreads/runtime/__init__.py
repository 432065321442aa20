"""A running module: options, statistics, its lifecycle, calls, the inspector."""
