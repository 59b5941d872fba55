"""The guard: an independent process that can always stop the desk.

It is started before any service and ended after all of them. It holds its own connections to the
venues, with the keys that can only cancel and close where the desk file gives such, keeps the
dead-man's switches, watches the controller, and takes an emergency stop over a unix socket. It
shares no strategy, P&L, database, bus or web code with the desk (an import contract says so).
"""
