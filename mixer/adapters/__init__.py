"""Adapters: the contract (`base`), finding them (`loading`), the test kit (`testing`), and a package for each."""
