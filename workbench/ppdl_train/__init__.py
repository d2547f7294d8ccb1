"""`openmg ppdl train`: federated learning over a file of households, in one process, with the parts of production.

The rounds take the meter's learner, the wire format, the replicas' checks and the agreed aggregation as they are; what
is left out is the transport between them. Beside the federated model stand those it must be compared with.
Not here: the chain (`hub.ppdl`), the attacks (`workbench.attacks`).
"""
