"""What adapters that export spans have in common; no adapter itself, and of no backend.

Read in this order: `ids` (which trace, which span, by whatever header), `span` (an instance as a span, or why not),
`params` (what an operator writes), `ledger` (what became of each), `courier` (queue, batches, retries), `handler`
(puts them together), `http` (the one module that knows aiohttp). Decisions: ADR 0013.

Source: spec adapters 4.10.
"""
