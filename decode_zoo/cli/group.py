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
cli.sections = {
    "Start here": {
        "predict": "Predict expression of genes.",
        "explain": "Attribute predictions to regulators.",
        "report": "Write an interactive page about genes.",
        "ls": "List models and feature sets.",
        "info": "Describe a model or feature set.",
        "doctor": "Examine this installation, and say what is wrong.",
    },
    "Your data": {
        "cohort": "Prepare the expression of a cohort.",
        "finetune": "Fine-tune a model on a cohort.",
        "evaluate": "Compare predictions with measured expression.",
        "features": "Build, merge and describe feature sets.",
        "train": "Train a model on features and expression.",
    },
    "Studies": {
        "study signature": "Rank regulators for a list of genes or a DE table.",
        "study knockout": "Take the sites of each regulator away.",
        "study disrupt": "Take the sites of each bin away.",
        "study pair": "Find what holds two genes together.",
        "study enrich": "Test gene sets among the regulators most used.",
        "study traits": "Relate a trait to expression and regulators.",
        "study coexpression": "Compare predicted with measured co-expression.",
        "study mediation": "Test whether regulators explain a co-expression.",
        "study ablation": "Train anew with RNA or promoter inputs exchanged.",
    },
    "Zoo": {
        "fetch": "Download artifacts and verify them.",
        "verify": "Hash the files that are here again.",
        "test": "Recompute a model's known answers.",
        "publish": "Check an artifact and lay it out for a mirror.",
        "cache": "Look after fetched files, or carry them elsewhere.",
    },
}
