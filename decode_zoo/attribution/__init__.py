"""From predictions back to regulators: DeepLIFT's rules, scores, and files of them."""
