"""Bytes, addressed by their SHA-256. `folder.py` is the embedded store; other stores keep its methods."""
