"""Faults that hurt real desks, as data, and what applies them.

kinds      every kind, as data            latency    how long requests wait
document   plans as files and bodies      plan       which fault strikes what
requests   what becomes of a request      streams    what becomes of an event
ground     what conditions and happenings do to the venue
middleware where HTTP requests meet the plan
"""
