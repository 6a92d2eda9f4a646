"""A model zoo that predicts differential gene expression from regulator binding sites."""

__version__ = "0.1.0"
