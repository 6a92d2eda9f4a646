"""The honest comparison of predictors: one split, one set of features (see ``__main__``)."""
