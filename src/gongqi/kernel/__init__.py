"""The ground: nouns and guarantees that every room stands on. It knows no domain."""
