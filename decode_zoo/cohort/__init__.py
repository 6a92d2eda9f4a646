"""Measured expression: from counts or TPM of a cohort to what models learn.

Source: Tasaki et al. 2020, Methods, 'Transcriptome data processing'.
"""
