"""The door for the clients of the Hugging Face Hub: `HF_ENDPOINT` and `HF_TOKEN`, and they work as they are.

A repository `organisation/name` is an asset of kind model or dataset; a commit is a revision, called by the first forty
digits of its digest; branches and tags are refs. Every change goes through the same verbs as at the other doors, so it
leaves the same evidence, and every read through the same policies. docs/decisions/0011 says what differs from the
original and why.

`door` (requests, errors, limits) → `forms` (how things are written here) → `identity`, `repositories`, `trees`,
`resolve`, `commits` (with `lines`), `lfs`, `requests` → `api` (the routes).

Source: the client itself, huggingface_hub 1.x and 2.x, and its published API description.
"""
