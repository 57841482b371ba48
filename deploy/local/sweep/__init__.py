"""The crash sweep: every external call of a run is a place to die at, and every one is tried.

A real process runs the real workflows against a real PostgreSQL, a real Redis and the simulated
wire over real HTTP; a counting proxy stands in all of its connections and kills it, or breaks a
call, at the place that a case names. Fault-free minutes follow, and then the ledger and the
venues' own accounts must agree.
"""
