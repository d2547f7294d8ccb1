"""The PPDL application: what the replicas agree on, behind `hub.ppdl.application.Application`.

`genesis_state` what the chain starts from; `transactions` what may be proposed; `state` what is agreed; `learning`,
`slots`, `inference`, `governance` and `offences` the rules of each kind of transaction; `set_change` how the validator
set is changed; `execute` one transaction or block end; `storage` and `app` the thin shell; `answers` and `membership`
what queries return.
Rules: no clock, socket, randomness or float anywhere here; `app` and `storage` alone touch a file.
"""
