"""Traffic for Mixer: measurements of what it costs, and the demonstration.

The command ``loadtest`` begins in `cli`. What is measured is a case (`cases`, one module each) under a `scenario`;
requests come from `traffic` and `encoded`; `wire` and `inprocess` measure; `results`, `tables`, `page` and `compare`
are about what was found.
"""
