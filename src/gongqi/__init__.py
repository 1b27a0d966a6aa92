"""Gongqi 公器: the operating platform of an AI-native open-source foundation."""

__version__ = "0.1.0"
