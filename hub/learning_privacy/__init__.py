"""The privacy accountant of a library, shown beside the chain's own bound (`openmg.learning.budget`).

Rules: nothing here is agreed on; replicas compare integers only. The library's figure is the tighter one.
"""
