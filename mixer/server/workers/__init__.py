"""Several processes behind one port: ``mixs server --workers N``. Why it is so: docs/adr/0011-workers.md.

The *owner*, which the operator starts, reads the configuration, keeps shared state, answers the HTTP pages and
looks after the *workers*, which serve the gRPC port together and are linked to it by one socket each.

* `link`: messages over that socket;
* `config`: the owner's configuration, followed by the workers;
* `sharing`: handlers whose state must be in one place run in the owner, and workers call them;
* `totals`: the workers' metrics as one;
* `processes`: starting, restarting and ending workers;
* `worker` and `owner`: the two programs.
"""
