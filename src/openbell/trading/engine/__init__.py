"""The execution engine: the one process that sends orders.

    intents ─▶ order_desk ── gate ── ledger (journal) ── venue.submit ── ledger ─▶ events
                  ▲                                                        ▲
    permit_client, latch, halt                        venue_link (stream, poll) ── core
                                                      resolver, reconciler

`core` decides what a venue's word means for an order; everything else here is shell around it and
around `openbell.domain`.
"""
