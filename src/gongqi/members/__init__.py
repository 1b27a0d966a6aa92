"""People, organisations, agents, sites; the roles they hold and the keys they come in by."""

from pathlib import Path

from gongqi.kernel.access import Vocabulary

VOCABULARY = Vocabulary.load(Path(__file__).with_name("vocabulary.toml"))
