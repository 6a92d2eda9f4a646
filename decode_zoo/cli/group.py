"""The verbs of the command line, and which module has each: it is imported when it is asked for."""

from decode_zoo.cli.runner import cli, study

__all__ = ["cli", "study"]

cli.homes = {
    "cache": "storage",
    "cohort": "data",
    "doctor": "models",
    "evaluate": "predict",
    "explain": "predict",
    "features": "data",
    "fetch": "models",
    "finetune": "learn",
    "info": "models",
    "ls": "models",
    "predict": "predict",
    "publish": "models",
    "report": "predict",
    "test": "models",
    "train": "learn",
    "verify": "models",
}
study.homes = {
    "ablation": "learn",
    "coexpression": "study_relation",
    "disrupt": "study_removal",
    "enrich": "study_relation",
    "knockout": "study_removal",
    "mediation": "study_relation",
    "pair": "study_removal",
    "signature": "study_relation",
    "traits": "study_relation",
}
