"""How far Accrete goes: unit costs measured on this machine, reckoned and simulated for layouts that it cannot run.

`costs` and `costs.json` have what one of each thing costs; `measuring` finds them on the real store, learner and
server. `layout` describes what is to be carried, `reckoning` says how busy each resource is, `simulation` how long
things wait, and `three_nodes` runs three servers, a learner, a store and a bucket, and compares.
"""
