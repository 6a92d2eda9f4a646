"""Signatures: which regulators account for a list of genes."""

from decode_zoo.studies.signature.lists import Signature, read_signature, read_signatures
from decode_zoo.studies.signature.scene import Reference, read_reference
from decode_zoo.studies.signature.study import SignatureStudy, study_signatures

__all__ = [
    "Reference",
    "Signature",
    "SignatureStudy",
    "read_reference",
    "read_signature",
    "read_signatures",
    "study_signatures",
]
