"""Who stands behind tokens: entities, their aliases at auth mounts, and groups of them.

    model.py      what is stored of each
    spelling.py   the one spelling of a name, and the key made of it
    records.py    rows of entities, with everything that points at them
    groups.py     rows of groups, and who is a member of what
    standing.py   what an entity is and may do at this moment: asked for each request
    entrance.py   what a login does to all this

Membership counts at the next request of every worker, because what `standing.py` keeps in memory is dropped by the
announcement of the commit that changes it. An entity that is disabled or gone takes its tokens out of force.
"""
