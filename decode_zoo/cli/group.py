"""All verbs of the command line, which are there once their modules are imported."""

from decode_zoo.cli import data, learn, predict, study_relation, study_removal
from decode_zoo.cli import models as zoo
from decode_zoo.cli import storage as cache
from decode_zoo.cli.runner import cli, study

__all__ = [
    "cache",
    "cli",
    "data",
    "learn",
    "predict",
    "study",
    "study_relation",
    "study_removal",
    "zoo",
]
