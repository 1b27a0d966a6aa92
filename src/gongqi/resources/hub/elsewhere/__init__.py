"""Other hubs: what is brought from them, and what is passed on from them as it is asked for.

Any hub that speaks the Hugging Face API will do: another Gongqi, huggingface.co, its mirrors. An operator names them
(`sources`); a maintainer brings a repository in as a revision of an asset here (`imports`, `fetching`), with where it
came from written down; and a foundation may stand in for one of them (`mirroring`, `passing`), so that what a region has
asked for once travels the thin line once.

`outside` (connections) → `upstream` (what such a hub answers) → `sources` → `imports` → `fetching`;
`shared`, `mirroring` → `passing`. The tables are in `foreign`, beside the hub's own.
"""
