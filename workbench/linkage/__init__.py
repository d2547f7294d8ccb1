"""Can anybody tell who had which load, and who traded it, from everything that hub, relay, utility and chain record?"""
