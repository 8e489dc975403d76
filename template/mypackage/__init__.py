"""Layers and tasks of one's own, which smallnets finds by the YAMLs in ``conf/``."""
