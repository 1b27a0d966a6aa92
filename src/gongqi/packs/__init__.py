"""Packs: what differs from place to place, kept out of the core (DESIGN 7, decision 0039).

A pack is a folder:

    pack.toml    id, jurisdiction, version, dates, the regions it is the law of, the capabilities it asks for
    sources.yaml where its rules come from: instrument, article, authority, since when, address
    rules.yaml   its rules: when they apply, what is then to be done, on which sources they rest
    cases.yaml   worked cases: facts and what the rules must say of them, texts and what the detectors must find
    words.toml   its words in both languages
    __init__.py  one literal `Pack(...)`: the folder, and the little code that fills ports

`rules` thinks (three-valued logic, joined answers), `reading` makes a pack of a folder and works its cases, `shelf` lists
the packs that come with this version, `service` has the verbs by which an operator loads one.

Laws: a pack that is loaded turns no deny into an allow and removes no duty, since its answers join those of others at a
gate; a fact that is missing turns nothing that applies into what does not; an interpretation is never told as statute.
"""
