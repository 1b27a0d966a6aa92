"""The Xet wire format: what the clients of the Hugging Face Hub upload, read without trusting any of it.

A client cuts files into chunks of about 64 KiB, packs new chunks into **xorbs**, and then says in a **shard** which
chunks of which xorbs make which file. `xorbs` and `shards` read the two, `rebuild` turns them into the file's bytes
again, `chunks` is the list that a xorb's name stands for, `hashes` is what all names are made of.

Invariants
- A name is believed when it has been computed from bytes: chunk, xorb, range, file and SHA-256, each in its place.
- A length or count is compared with its limit before memory is given to it; a chunk is at most 128 KiB.
- Every claim is either checked or not used. Nothing here knows a table, a clock or the web.

Source: Xet Protocol Specification 1.1.0 (https://huggingface.co/docs/xet), draft-denis-xet-03, and the uploads of
hf-xet 1.2 to 1.8 as observed. Where the texts differ from the clients, the comment beside the rule says how.
"""
