"""State transfer: a hub that is far behind takes a snapshot of the application instead of all the blocks before it.

`manifest` what is offered, with its proof; `messages` the wire; `sync` who is asked for what, without input or output;
`archive` an application's snapshots on its disk; `incoming` the chunks on the way in; `install` putting them in force;
`service` all of it at work in an engine.
"""
